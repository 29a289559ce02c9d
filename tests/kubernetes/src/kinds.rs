//! The kinds of objects that are served, and their paths.

/// A kind and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As `kind` has it.
    pub kind: &'static str,
    /// As `apiVersion` has it.
    pub api_version: &'static str,
    /// As the path has it.
    pub plural: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Kept under this kind's version: one event is served by two groups.
    pub stored_as: &'static str,
}

const fn kind(kind: &'static str, api_version: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind {
        kind,
        api_version,
        plural,
        namespaced,
        stored_as: api_version,
    }
}

/// The group of the newer of the two shapes that an event has.
pub const NEW_EVENTS: &str = "events.k8s.io/v1";

/// All that are served.
pub const KINDS: &[Kind] = &[
    kind("Pod", "v1", "pods", true),
    kind("Service", "v1", "services", true),
    kind("Node", "v1", "nodes", false),
    kind("Namespace", "v1", "namespaces", false),
    kind("Event", "v1", "events", true),
    Kind {
        stored_as: "v1",
        ..kind("Event", NEW_EVENTS, "events", true)
    },
    kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", true),
    kind("ReplicaSet", "apps/v1", "replicasets", true),
    kind("Deployment", "apps/v1", "deployments", true),
];

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Of which kind.
    pub kind: &'static Kind,
    /// In which namespace; in all when `None`.
    pub namespace: Option<&'a str>,
    /// Which one; all when `None`.
    pub name: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Reads `/api/v1/...` and `/apis/<group>/<version>/...`; `None` for what is not served.
    pub fn of_path(path: &'a str) -> Option<Self> {
        let kinds = |api: &'a str, plural: &'a str| {
            KINDS
                .iter()
                .find(|kind| kind.api_version == api && kind.plural == plural)
        };
        let (api, rest) = match path.strip_prefix("/api/") {
            Some(core) => core.split_once('/')?,
            None => {
                let path = path.strip_prefix("/apis/")?;
                let (at, _) = path.match_indices('/').nth(1)?;
                (path.get(..at)?, path.get(at + 1..)?)
            }
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (namespace, plural, name) = match parts.as_slice() {
            ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
            ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
            [plural] => (None, *plural, None),
            [plural, name] => (None, *plural, Some(*name)),
            _ => return None,
        };
        let kind = kinds(api, plural)?;
        (kind.namespaced || namespace.is_none()).then_some(Self {
            kind,
            namespace,
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_core_and_of_groups() {
        let asked = |path| {
            Asked::of_path(path).map(|asked| (asked.kind.kind, asked.namespace.unwrap_or("-"), asked.name))
        };
        assert_eq!(asked("/api/v1/pods"), Some(("Pod", "-", None)));
        assert_eq!(asked("/api/v1/namespaces/shop/pods"), Some(("Pod", "shop", None)));
        assert_eq!(
            asked("/api/v1/namespaces/shop/pods/a"),
            Some(("Pod", "shop", Some("a")))
        );
        assert_eq!(asked("/api/v1/namespaces"), Some(("Namespace", "-", None)));
        assert_eq!(
            asked("/api/v1/namespaces/shop"),
            Some(("Namespace", "-", Some("shop")))
        );
        let slices = "/apis/discovery.k8s.io/v1/endpointslices";
        assert_eq!(asked(slices), Some(("EndpointSlice", "-", None)));
        assert_eq!(asked("/apis/apps/v1/pods"), None);
        assert_eq!(asked("/healthz"), None);
    }
}
