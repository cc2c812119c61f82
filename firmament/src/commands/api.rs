//! A client of the gateway's API, for the commands.
//! Owns: how a server's answer becomes a result or a failure. Never: what is asked.

use std::time::Duration;

use anyhow::anyhow;
use protocol::api::List;
use protocol::openai::ErrorBody;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tls::{Authorities, Trust};

use crate::cli::Server;
use crate::failure::{Exit, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of a server; generating may take its time.
const SILENCE_MAX: Duration = Duration::from_mins(5);
const PAGE: &str = "200";

/// A gateway to ask.
pub struct Api {
    base: Url,
    key: Option<String>,
    client: Client,
}

impl Api {
    /// A client of `server`; nothing is sent yet. The address may end in `/v1`, as the base addresses
    /// of OpenAI's clients do.
    pub fn new(server: &Server) -> Result<Self, Failure> {
        let base =
            Url::parse(&server.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| {
            Failure::usage(anyhow!("`{}` is not an http or https address", server.url))
        })?;
        let authorities = server.ca_file.as_deref().map(Authorities::read).transpose()?;
        let trust = authorities.as_ref().map(Trust::authorities);
        Self::with_trust(server, without_version(base), trust.as_ref())
    }

    /// A client of a gateway in this process.
    #[cfg(feature = "up")]
    pub fn of_itself(server: &Server, trust: Option<&Trust>) -> Result<Self, Failure> {
        Self::with_trust(server, Url::parse(&server.url).map_err(Failure::usage)?, trust)
    }

    fn with_trust(server: &Server, base: Url, trust: Option<&Trust>) -> Result<Self, Failure> {
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(SILENCE_MAX);
        // On this machine no proxy matters, and on plain HTTP no certificate.
        let client = if is_here(&base) { client.no_proxy() } else { client };
        let client = match trust {
            Some(trust) => client.tls_backend_preconfigured(trust.client()),
            None if is_here(&base) && base.scheme() == "http" => client.tls_certs_only([]),
            None => client,
        };
        let advice = "install ca-certificates, or set SSL_CERT_FILE";
        let client = client.build().map_err(|error| Failure::new(error, advice))?;
        Ok(Self { base, key: server.api_key.clone(), client })
    }

    /// A request to a path of plain segments, each of which is escaped.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        let mut path = url.path_segments_mut().expect("http addresses have paths");
        path.pop_if_empty().extend(segments);
        drop(path);
        let request = self.client.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request and waits for the head of a good answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    /// Reads an answer if it is a good one.
    #[cfg(feature = "up")]
    pub async fn checked<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        let good = response.status().is_success();
        if good { self.read(response).await } else { Err(refused(response).await) }
    }

    /// Sends a request and reads the answer.
    pub async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        self.read(self.send(request).await?).await
    }

    /// Reads an answer.
    pub async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        response.json().await.map_err(|error| {
            if error.is_decode() {
                let error = error.without_url();
                return Failure::new(error, "check that --url names a gateway of this release");
            }
            self.unreachable(error)
        })
    }

    /// Every page of a listing.
    pub async fn list<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let page = self.page(segments, after.as_deref()).await?;
            items.extend(page.data);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(items),
            }
        }
    }

    async fn page<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        after: Option<&str>,
    ) -> Result<List<T>, Failure> {
        let mut query = vec![("limit", PAGE)];
        query.extend(after.map(|after| ("after", after)));
        self.answer(self.request_with(Method::GET, segments, &query)?).await
    }

    /// A request to a path of plain segments with a query.
    pub fn request_with(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, Failure> {
        let (client, request) = self.request(method, segments).build_split();
        let mut request = request.map_err(Failure::usage)?;
        request.url_mut().query_pairs_mut().extend_pairs(query);
        Ok(RequestBuilder::from_parts(client, request))
    }

    /// Sends `body` and reads the answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.answer(self.request(Method::POST, segments).json(body)).await
    }

    /// No answer came.
    pub fn unreachable(&self, error: reqwest::Error) -> Failure {
        let host = self.base.authority().rsplit('@').next().unwrap_or_default().to_owned();
        let fault = tls::fault(&error);
        let error =
            anyhow::Error::new(error.without_url()).context(format!("no answer from {host}"));
        let Some(fault) = fault else {
            let advice = "start a server with `firmament up`, or name another with --url";
            return Failure::with(Exit::Unreachable, error, advice);
        };
        // What rustls says when an answer is no TLS at all.
        let plain = format!("{error:#}").contains("InvalidContentType");
        let advice = if plain {
            "that server speaks plain http: begin --url with http://"
        } else {
            "name the authority of its certificate with --ca-file, and dial a name that it is made out to"
        };
        Failure::with(Exit::Unreachable, anyhow!("no TLS with {host}: {fault}"), advice)
    }
}

fn without_version(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/');
    if let Some(before) = path.strip_suffix("/v1").map(ToOwned::to_owned) {
        url.set_path(&before);
    }
    url
}

/// Whether an address is one of this machine's own.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// What a server's refusal means for the command.
async fn refused(response: Response) -> Failure {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let body: Option<ErrorBody> = serde_json::from_str(&text).ok();
    let said: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    let (message, code) = body.map_or_else(
        || (format!("the server answered {status}: {said}"), None),
        |body| (body.error.message, body.error.code),
    );
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    let (exit, advice) = match status {
        StatusCode::NOT_FOUND => (Exit::NotFound, "see what there is with the `list` commands"),
        StatusCode::UNAUTHORIZED => {
            (Exit::Denied, "give a valid key with --api-key or FIRMAMENT_API_KEY")
        }
        StatusCode::FORBIDDEN => (Exit::Denied, "use a key with the scope that this needs"),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            (Exit::Failed, "try again in a moment")
        }
        status if status.is_server_error() => (Exit::Failed, "look at the server's log"),
        _ => (Exit::Failed, "correct what the message names and try again"),
    };
    Failure::with(exit, anyhow!("{message}{code}"), advice)
}
