//! The simple index of Python packages, as a client: the JSON form, or the HTML form's links.
//! Owns: reading a package's page and picking one wheel. Never: downloads, environment markers.
//! Source: PyPA specifications, "Simple repository API" and "Binary distribution format".

use protocol::Digest;
use reqwest::Url;
use serde::Deserialize;

use super::client::{Http, Page};
use super::error::{FetchError, shown};

const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, \
                      application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
const PAGE_BYTES_MAX: u64 = 32 << 20;

/// One file that the index offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) filename: String,
    pub(super) url: Url,
    pub(super) sha256: Option<Digest>,
    pub(super) size_bytes: Option<u64>,
}

/// Asks `index` for the pure wheel of exactly this version.
pub(super) async fn find_wheel(
    http: &Http,
    index: &Url,
    package: &str,
    version: &str,
) -> Result<Offer, FetchError> {
    let page_url = page_of(index, package)?;
    let page = http.page(&page_url, ACCEPT, PAGE_BYTES_MAX).await?;
    let offers = read(&page)?;
    let mut offer = pick(offers, package, version).ok_or_else(|| FetchError::NoWheel {
        package: package.to_owned(),
        version: version.to_owned(),
    })?;
    lend_credentials(index, &mut offer.url);
    Ok(offer)
}

/// `<index>/<name>/`, the name in lower case with runs of `-_.` as one `-`.
fn page_of(index: &Url, package: &str) -> Result<Url, FetchError> {
    let root = index.as_str().trim_end_matches('/');
    super::client::address(&format!("{root}/{}/", normal(package)))
}

fn normal(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

pub(super) fn read(page: &Page) -> Result<Vec<Offer>, FetchError> {
    let problem = |problem: String| FetchError::Index { url: shown(&page.url), problem };
    let text = std::str::from_utf8(&page.body).map_err(|error| problem(error.to_string()))?;
    if page.kind.split(';').next().is_some_and(|kind| kind.trim().ends_with("json")) {
        return read_json(&page.url, text).map_err(|error| problem(error.to_string()));
    }
    Ok(read_html(&page.url, text))
}

#[derive(Deserialize)]
struct JsonPage {
    files: Vec<JsonFile>,
}

#[derive(Deserialize)]
struct JsonFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    size: Option<u64>,
}

fn read_json(base: &Url, text: &str) -> serde_json::Result<Vec<Offer>> {
    let page: JsonPage = serde_json::from_str(text)?;
    let offers = page.files.into_iter().filter_map(|file| {
        Some(Offer {
            url: base.join(&file.url).ok().filter(is_web)?,
            sha256: file.hashes.get("sha256").and_then(|digest| digest.parse().ok()),
            filename: file.filename,
            size_bytes: file.size,
        })
    });
    Ok(offers.collect())
}

/// Every link of the page; what is no wheel is sorted out by its file name.
fn read_html(base: &Url, text: &str) -> Vec<Offer> {
    links(text).filter_map(|href| offer_of_link(base, &href)).collect()
}

fn offer_of_link(base: &Url, href: &str) -> Option<Offer> {
    let mut url = base.join(href).ok().filter(is_web)?;
    let digest = url.fragment().and_then(|fragment| fragment.strip_prefix("sha256="));
    let sha256 = digest.and_then(|digest| digest.parse().ok());
    url.set_fragment(None);
    let filename = url.path_segments()?.next_back()?.replace("%2B", "+").replace("%2b", "+");
    Some(Offer { filename, url, sha256, size_bytes: None })
}

/// The values of `href` in the page's `<a …>` tags.
fn links(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('<').filter_map(|tag| {
        let rest =
            tag.strip_prefix(['a', 'A']).filter(|rest| rest.starts_with(char::is_whitespace))?;
        let attributes = rest.split('>').next()?;
        let at = attributes.to_ascii_lowercase().find("href=")?;
        let value = &attributes[at + "href=".len()..];
        let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''))?;
        let href = value[1..].split(quote).next()?;
        Some(href.replace("&amp;", "&").replace("&#43;", "+"))
    })
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// The wheel of this package and version that runs anywhere.
pub(super) fn pick(offers: Vec<Offer>, package: &str, version: &str) -> Option<Offer> {
    offers.into_iter().find(|offer| is_pure_wheel(&offer.filename, package, version))
}

/// `{name}-{version}[-{build}]-{python}-none-any.whl`.
pub(super) fn is_pure_wheel(filename: &str, package: &str, version: &str) -> bool {
    let Some(stem) = filename.strip_suffix("-none-any.whl") else { return false };
    let mut fields = stem.split('-');
    let named = fields.next().is_some_and(|name| normal(name) == normal(package));
    named && fields.next() == Some(version) && (1..=2).contains(&fields.count())
}

/// A file on the index's own host is fetched with the index's credentials, as pip does.
fn lend_credentials(index: &Url, file: &mut Url) {
    if file.origin() == index.origin() && file.username().is_empty() && file.password().is_none() {
        // Both fail only for addresses without a host, and these have one.
        let _ = file.set_username(index.username());
        let _ = file.set_password(index.password());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

    fn page(kind: &str, body: &str) -> Page {
        let url = Url::parse("https://index.example/simple/tiny-model/").expect("an address");
        Page { url, kind: kind.into(), body: body.into() }
    }

    #[test]
    fn json_and_html_pages_offer_the_same_wheel() {
        let json = format!(
            r#"{{"meta":{{"api-version":"1.1"}},"name":"tiny-model","files":[
              {{"filename":"tiny_model-0.1.2.tar.gz","url":"../../f/tiny_model-0.1.2.tar.gz","hashes":{{}}}},
              {{"filename":"tiny_model-0.1.2-py3-none-any.whl","size":7,"yanked":false,
                "url":"../../f/tiny_model-0.1.2-py3-none-any.whl","hashes":{{"sha256":"{HEX}"}}}}]}}"#
        );
        let html = format!(
            "<!DOCTYPE html><html><body><abbr href='no'>x</abbr>\n\
             <a href=\"../../f/tiny_model-0.1.2.tar.gz\">tiny_model-0.1.2.tar.gz</a><br/>\n\
             <A data-requires-python='&gt;=3.8' HREF='../../f/tiny_model-0.1.2-py3-none-any.whl#sha256={HEX}'>\
             tiny_model-0.1.2-py3-none-any.whl</A></body></html>"
        );
        let from_json = read(&page("application/vnd.pypi.simple.v1+json", &json)).expect("json");
        let from_html = read(&page("text/html; charset=utf-8", &html)).expect("html");
        let wheel = pick(from_json, "Tiny.Model", "0.1.2").expect("it is offered");
        assert_eq!(wheel.url.as_str(), "https://index.example/f/tiny_model-0.1.2-py3-none-any.whl");
        assert_eq!((wheel.sha256, wheel.size_bytes), (HEX.parse().ok(), Some(7)));
        let other = pick(from_html, "tiny_model", "0.1.2").expect("it is offered");
        assert_eq!(other, Offer { size_bytes: None, ..wheel });
    }

    #[test]
    fn other_versions_platforms_and_packages_are_no_match() {
        let name = "tiny_model-0.1.2-py3-none-any.whl";
        assert!(is_pure_wheel(name, "tiny-model", "0.1.2"));
        assert!(is_pure_wheel("tiny_model-0.1.2-1-py2.py3-none-any.whl", "tiny-model", "0.1.2"));
        for (package, version) in
            [("tiny-model", "0.1"), ("tiny-model", "0.1.20"), ("tiny", "0.1.2")]
        {
            assert!(!is_pure_wheel(name, package, version), "{package} {version}");
        }
        for other in
            ["tiny_model-0.1.2-cp311-cp311-linux_x86_64.whl", "tiny_model-0.1.2.tar.gz", ""]
        {
            assert!(!is_pure_wheel(other, "tiny-model", "0.1.2"), "{other}");
        }
    }

    #[test]
    fn a_page_that_is_not_what_it_says_is_refused() {
        for body in ["", "[]", r#"{"files":7}"#, "<html>"] {
            let refused = read(&page("application/vnd.pypi.simple.v1+json", body));
            assert!(matches!(refused, Err(FetchError::Index { .. })), "{body}");
        }
        assert!(
            read(&page("text/html", "<a href=\"javascript:x\"><a href=><a"))
                .expect("html")
                .is_empty()
        );
    }

    #[test]
    fn credentials_go_to_the_index_host_only() {
        let index = Url::parse("https://user:word@index.example/simple").expect("an address");
        let mut same = Url::parse("https://index.example/f/x.whl").expect("an address");
        let mut other = Url::parse("https://files.example/f/x.whl").expect("an address");
        lend_credentials(&index, &mut same);
        lend_credentials(&index, &mut other);
        assert_eq!(same.as_str(), "https://user:word@index.example/f/x.whl");
        assert_eq!(other.as_str(), "https://files.example/f/x.whl");
    }
}
