//! Who may call what, and how the keyless caller on this machine is told from a web page.

use http::{Method, header};
use serde_json::{Value, json};

use super::rig::{Rig, bearer, from, request};
use crate::routes;

const METHODS: [(&str, Method); 4] = [
    ("get", Method::GET),
    ("post", Method::POST),
    ("put", Method::PUT),
    ("delete", Method::DELETE),
];

/// Every described operation with the scope that its description asks for; none means no key at all.
fn operations(rig: &Rig) -> Vec<(Method, String, Option<Vec<String>>)> {
    let description = routes::described(&rig.app).to_openapi();
    let description: Value = serde_json::to_value(description).expect("plain data");
    let mut found = Vec::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for (name, method) in &METHODS {
            let Some(operation) = item.get(*name) else { continue };
            let needs = operation["security"].as_array().expect("each route states its need");
            let key = needs[0].get("api_key").map(|scopes| {
                let scopes = scopes.as_array().expect("scopes").iter();
                scopes.map(|scope| scope.as_str().expect("text").to_owned()).collect()
            });
            found.push((method.clone(), path.clone(), key));
        }
    }
    assert!(found.len() > 25, "the description is complete: {found:?}");
    found
}

#[tokio::test]
async fn every_route_lets_in_exactly_the_callers_that_its_description_names() {
    let rig = Rig::start().await;
    let keys: [(&[&str], String); 7] = [
        (&["inference"], rig.key("other", &["inference"]).await),
        (&["adapters"], rig.key("other", &["adapters"]).await),
        (&["admin"], rig.key("other", &["admin"]).await),
        (&["admin", "operator"], rig.key("local", &["admin"]).await),
        (&[], rig.key("other", &[]).await),
        (&["metrics"], rig.key("local", &["metrics"]).await),
        (&["nothing"], rig.key("other", &["metrics"]).await),
    ];
    for (method, path, need) in operations(&rig) {
        let ask = || {
            let mut request = request(method.clone(), &path, Some(json!({})));
            from(&mut request, "10.0.0.9:1", "0.0.0.0:8080");
            request
        };
        let stranger = rig.send(ask()).await.status.as_u16();
        assert_eq!(stranger == 401, need.is_some(), "{method} {path} without a key: {stranger}");
        for (roles, key) in &keys {
            let reply = rig.send(bearer(ask(), key)).await;
            let (status, case) = (reply.status.as_u16(), format!("{method} {path} as {roles:?}"));
            let allowed = need.as_ref().is_none_or(|needed| {
                let scrapes = [&["metrics"][..], &["nothing"]].contains(roles);
                (needed.is_empty() && !scrapes)
                    || needed.iter().any(|role| roles.contains(&role.as_str()))
            });
            // The bodies are empty objects: past the guard they meet 400, 404, 415, a route that is
            // off, or succeed.
            let refused =
                ["scope_missing", "operator_only"].iter().any(|code| reply.body.contains(code));
            assert_eq!(refused, !allowed, "{case}: {}", reply.body);
            assert!(status == 403 || !refused, "{case}: {status}");
            assert!(status != 401 && status != 500, "{case}: {status}");
        }
    }
}

#[tokio::test]
async fn only_the_operator_lets_in_a_worker_because_it_serves_every_tenant() {
    let rig = Rig::start().await;
    let admin = rig.key("other", &["admin"]).await;
    let operator = rig.key("local", &["admin"]).await;
    let ask = async |kind: &str, key: &str| {
        let body = Some(json!({ "kind": kind }));
        rig.send(bearer(request(Method::POST, "/v1/join_tokens", body), key)).await
    };
    assert_eq!(ask("worker", &admin).await.error().1, "operator_only");
    assert_eq!(ask("device", &admin).await.status, 201);
    assert_eq!(ask("worker", &operator).await.status, 201);
}

#[tokio::test]
async fn keys_that_are_expired_revoked_or_made_up_are_refused() {
    let rig = Rig::start().await;
    let body = json!({"name": "short", "scopes": ["inference"], "expires_in_seconds": 60});
    let made = rig.post("/v1/keys", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let (key, id) = (made.json()["secret"].clone(), made.json()["id"].clone());
    let key = key.as_str().expect("text");
    let models = |key: &str| bearer(request(Method::GET, "/v1/models", None), key);
    assert_eq!(rig.send(models(key)).await.status, 200);

    let (prefix, secret) = key.rsplit_once('_').expect("three parts");
    let swapped = format!("{}_{secret}", "fmk_000000000000");
    let guessed = format!("{prefix}_{}", "0".repeat(64));
    for wrong in [swapped, guessed] {
        assert_eq!(rig.send(models(&wrong)).await.error().1, "invalid_api_key");
    }
    rig.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(rig.send(models(key)).await.status, 401, "expired");

    let made = rig.post("/v1/keys", json!({"name": "k"})).await.json();
    let (key, id2) = (made["secret"].as_str().expect("text"), made["id"].as_str().expect("text"));
    assert_eq!(rig.send(models(key)).await.status, 200);
    let path = format!("/v1/keys/{id2}");
    assert_eq!(rig.call(Method::DELETE, &path, None).await.status, 200);
    assert_eq!(rig.send(models(key)).await.status, 401, "revoked");

    let listed = rig.get("/v1/keys").await;
    assert!(listed.body.contains(id.as_str().expect("text")));
    assert!(!listed.body.contains(secret), "a secret is told once");
}

#[tokio::test]
async fn hostile_authorization_headers_are_refused_and_break_nothing() {
    let rig = Rig::start().await;
    for value in ["' or 1=1 --", "Basic dXNlcjpwYXNz", "Bearer", "fmk_x", ""] {
        let mut ask = request(Method::GET, "/v1/models", None);
        from(&mut ask, "10.0.0.9:1", "0.0.0.0:8080");
        ask.headers_mut().insert(header::AUTHORIZATION, value.parse().expect("a value"));
        assert_eq!(rig.send(ask).await.error().0, 401, "{value}");
    }
}

#[tokio::test]
async fn a_placeholder_key_is_fine_on_this_machine_only() {
    let rig = Rig::start().await;
    let ask = || bearer(request(Method::GET, "/v1/models", None), "sk-anything");
    assert_eq!(rig.send(ask()).await.status, 200);
    let mut far = ask();
    from(&mut far, "10.0.0.9:1", "0.0.0.0:8080");
    assert_eq!(rig.send(far).await.status, 401);
    let mut proxied = ask();
    from(&mut proxied, "127.0.0.1:1", "0.0.0.0:8080");
    assert_eq!(rig.send(proxied).await.status, 401);
}

#[tokio::test]
async fn what_a_proxy_on_this_machine_passes_on_needs_a_key() {
    let rig = Rig::start().await;
    let key = rig.key("local", &["inference"]).await;
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "via", "x-real-ip"] {
        let ask = || {
            let mut ask = request(Method::GET, "/v1/models", None);
            ask.headers_mut().insert(name, "203.0.113.9".parse().expect("a value"));
            ask
        };
        assert_eq!(rig.send(ask()).await.error().0, 401, "{name}");
        assert_eq!(rig.send(bearer(ask(), &key)).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn callers_on_this_machine_need_a_key_where_the_operator_says_so() {
    let config = crate::GatewayConfig { require_key: true, ..crate::GatewayConfig::default() };
    let rig = Rig::with(config).await;
    assert_eq!(rig.get("/v1/models").await.error().0, 401);
    let key = rig.key("local", &["inference"]).await;
    let ask = bearer(request(Method::GET, "/v1/models", None), &key);
    assert_eq!(rig.send(ask).await.status, 200);
}

#[tokio::test]
async fn a_web_page_cannot_use_the_keyless_caller() {
    let rig = Rig::start().await;
    let cases = [
        ("localhost:8080", None, 200),
        ("127.0.0.1", None, 200),
        ("[::1]:9", None, 200),
        ("evil.example:8080", None, 403),
        ("localhost.evil.example", None, 403),
        ("127.0.0.1.nip.io", None, 403),
        ("localhost:8080", Some("http://localhost:3000"), 200),
        ("localhost:8080", Some("http://127.0.0.1:8080"), 200),
        ("localhost:8080", Some("https://evil.example"), 403),
        ("localhost:8080", Some("http://localhost.evil.example"), 403),
        ("localhost:8080", Some("null"), 403),
        ("evil.example", Some("http://evil.example"), 403),
    ];
    for (host, origin, status) in cases {
        let mut ask = request(Method::GET, "/v1/models", None);
        ask.headers_mut().insert(header::HOST, host.parse().expect("a value"));
        if let Some(origin) = origin {
            ask.headers_mut().insert(header::ORIGIN, origin.parse().expect("a value"));
        }
        let reply = rig.send(ask).await;
        assert_eq!(reply.status.as_u16(), status, "{host} {origin:?}");
        if status == 403 {
            reply.error();
        }
    }
}

#[tokio::test]
async fn a_key_holder_may_call_by_any_host_name() {
    let rig = Rig::start().await;
    let key = rig.key("other", &["inference"]).await;
    let mut ask = bearer(request(Method::GET, "/v1/models", None), &key);
    ask.headers_mut().insert(header::HOST, "gateway.example".parse().expect("a value"));
    assert_eq!(rig.send(ask).await.status, 200);
}

#[tokio::test]
async fn paths_that_only_look_like_a_route_are_unknown() {
    let rig = Rig::start().await;
    for path in [
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/V1/models",
        "/v1/%6dodels/",
        "/v1/keys/..%2f",
    ] {
        let mut ask = request(Method::GET, path, None);
        from(&mut ask, "10.0.0.9:1", "0.0.0.0:8080");
        let status = rig.send(ask).await.status.as_u16();
        assert!(matches!(status, 401 | 404 | 405), "{path}: {status}");
    }
}

#[tokio::test]
async fn nobody_makes_a_key_with_more_rights_than_their_own() {
    let rig = Rig::start().await;
    let admin = rig.key("other", &["admin"]).await;
    let make = |body: Value| bearer(request(Method::POST, "/v1/keys", Some(body)), &admin);
    assert_eq!(rig.send(make(json!({"name": "k", "scopes": ["adapters"]}))).await.error().0, 400);
    assert_eq!(rig.send(make(json!({"name": "k", "tenant": "local"}))).await.error().0, 403);
    assert_eq!(rig.send(make(json!({"name": "k", "scopes": ["admin"]}))).await.status, 201);
}

#[tokio::test]
async fn a_wrong_key_and_no_key_are_told_apart() {
    let rig = Rig::start().await;
    let ask = || {
        let mut request = request(Method::GET, "/v1/models", None);
        from(&mut request, "10.0.0.9:1", "0.0.0.0:8080");
        request
    };
    let message = async |request| {
        rig.send(request).await.json()["error"]["message"].as_str().expect("text").to_owned()
    };
    assert!(message(ask()).await.contains("needs an API key"));
    assert!(message(bearer(ask(), "sk-1234")).await.contains("not valid"));
}

#[tokio::test]
async fn a_page_of_another_origin_may_call_only_if_it_was_named() {
    const APP: &str = "https://app.example";
    let preflight = async |rig: &Rig, origin: &'static str| {
        let mut asked = request(Method::OPTIONS, "/v1/chat/completions", None);
        asked.headers_mut().insert(header::ORIGIN, header::HeaderValue::from_static(origin));
        let method = header::HeaderValue::from_static("POST");
        asked.headers_mut().insert(header::ACCESS_CONTROL_REQUEST_METHOD, method);
        rig.send(asked).await
    };
    let models = async |rig: &Rig| {
        let mut asked = request(Method::GET, "/v1/models", None);
        asked.headers_mut().insert(header::ORIGIN, header::HeaderValue::from_static(APP));
        rig.send(asked).await
    };
    let closed = Rig::start().await;
    assert_eq!(preflight(&closed, APP).await.status, 405);
    assert_eq!(models(&closed).await.status, 403);
    let allow_origin = vec![header::HeaderValue::from_static(APP)];
    let config = crate::GatewayConfig { allow_origin, ..crate::GatewayConfig::default() };
    let open = Rig::with(config).await;
    let answer = preflight(&open, APP).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, APP));
    assert!(answer.header("access-control-allow-headers").contains("content-type"));
    assert_eq!(models(&open).await.header("access-control-allow-origin"), APP);
    let other = preflight(&open, "https://other.example").await;
    assert_eq!(other.header("access-control-allow-origin"), "");
}
