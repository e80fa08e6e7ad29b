//! The proxies that the environment names.

use super::NetworkProblem;
use super::place::Place;
use crate::machine::environment::Environment;

/// The proxy on the way to `place`, as curl reads the environment: both cases, the small
/// letters first.
pub(super) fn proxy(
    place: &Place,
    environment: &Environment,
) -> Result<Option<ureq::Proxy>, NetworkProblem> {
    let get = |name: &str| environment.get(name).or(environment.get(&name.to_uppercase()));
    if get("no_proxy").is_some_and(|list| bypasses(list, place.host())) {
        return Ok(None);
    }
    let name = format!("{}_proxy", place.scheme);
    let Some(proxy) = get(&name).or(get("all_proxy")) else { return Ok(None) };
    let unusable = |_| NetworkProblem::Invalid(format!("{name} or all_proxy is no URL of a proxy"));
    ureq::Proxy::new(proxy).map(Some).map_err(unusable)
}

/// Whether a `no_proxy` list names the host or a domain that it is in.
pub(super) fn bypasses(list: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        let entry = entry.split_once(':').map_or(entry.as_str(), |(host, _)| host);
        let domain = || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'));
        entry == "*" || (!entry.is_empty() && (host == entry || domain()))
    })
}
