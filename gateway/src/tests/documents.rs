//! The description and the page that shows it.

use serde_json::Value;

use super::rig::Rig;

#[tokio::test]
async fn the_description_is_openapi_3_1_and_is_as_it_was() {
    let rig = Rig::start().await;
    let description = rig.get("/openapi.json").await.json();
    assert!(description["openapi"].as_str().expect("a version").starts_with("3.1"));
    insta::assert_json_snapshot!(description, { ".info.version" => "VERSION" });
}

#[tokio::test]
async fn every_reference_in_the_description_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let rig = Rig::start().await;
    let description = rig.get("/openapi.json").await.json();
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(description.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn the_address_that_the_server_prints_leads_to_the_page() {
    let rig = Rig::start().await;
    let reply = rig.get("/").await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/docs"));
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let rig = Rig::start().await;
    let page = rig.get("/docs").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.body.contains(outside), "{outside}");
    }
}
