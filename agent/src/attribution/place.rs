//! What the path of a cgroup says: which container of which pod it is, or which of systemd's units.
//!
//! There is no standard, only the habits of kubelets, container runtimes and their drivers:
//!
//! | made by | path |
//! |---|---|
//! | kubelet, driver cgroupfs | `kubepods/burstable/pod<uid>/<id>` |
//! | kubelet, driver systemd | `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, _ for ->.slice/…` |
//! | containerd, systemd | `cri-containerd-<id>.scope` |
//! | containerd as if systemd, but cgroupfs | `kubepods-…-pod<uid>.slice:cri-containerd:<id>` |
//! | CRI-O | `crio-<id>.scope`, `crio-<id>`; beside it `crio-conmon-<id>.scope`, which is no container |
//! | Docker, cri-dockerd | `docker-<id>.scope`, `docker/<id>` |
//! | Podman | `libpod-<id>.scope` |
//! | kind, nested kubelets | any of these below another: `kubelet.slice/kubelet-kubepods.slice/…` |

/// What a path says. What it does not is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Uid of the pod, with dashes. Of a static pod, the hash of its file, which has none.
    pub pod: String,
    /// Id of the container.
    pub container: String,
    /// The systemd unit, where it is neither a pod nor a container.
    pub unit: String,
}

/// Digits of the ids that all container runtimes give: SHA-256.
const CONTAINER_ID: usize = 64;

impl Place {
    /// Reads a path. The outermost pod counts, and the outermost container of it: what a container makes below its cgroup
    /// is still the container's.
    pub fn of_path(path: &str) -> Self {
        let mut place = Self::default();
        // containerd, told of the driver that it does not use, writes one level with colons.
        for level in path.split(['/', ':']) {
            if place.pod.is_empty()
                && let Some(uid) = pod_uid(level)
            {
                // A node that is itself a container (kind): the pod's containers are further below.
                place = Self {
                    pod: uid,
                    ..Self::default()
                };
            } else if place.container.is_empty()
                && let Some(id) = container_id(level)
            {
                id.clone_into(&mut place.container);
            }
        }
        if place.pod.is_empty() && place.container.is_empty() {
            place.unit = path.rsplit('/').find_map(unit).unwrap_or_default();
        }
        place
    }

    /// Whether it is of a pod or a container.
    pub fn is_contained(&self) -> bool {
        !self.pod.is_empty() || !self.container.is_empty()
    }
}

/// Of `pod<uid>` and `kubepods-besteffort-pod<uid>.slice`, the latter perhaps below a slice of another name.
fn pod_uid(level: &str) -> Option<String> {
    let name = level.strip_suffix(".slice").unwrap_or(level);
    let uid = match name.rsplit_once("-pod") {
        Some((above, uid)) if above.contains("kubepods") => uid,
        Some(_) => return None,
        None => name.strip_prefix("pod")?,
    };
    // systemd's names of slices say their parents by dashes.
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes: Vec<usize> = uid.match_indices('-').map(|(at, _)| at).collect();
    let is_uid = digits == 32 && digits + dashes.len() == uid.len();
    (is_uid && (dashes.is_empty() || dashes == [8, 13, 18, 23])).then_some(uid)
}

fn container_id(level: &str) -> Option<&str> {
    let name = level.strip_suffix(".scope").unwrap_or(level);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    // The monitor of a container is not in it.
    let is_id = id.len() == CONTAINER_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}

/// A service or scope, as systemd calls it.
fn unit(level: &str) -> Option<String> {
    let is_unit = level.ends_with(".service") || level.ends_with(".scope");
    is_unit.then(|| unescape(level))
}

/// Undoes `\x2d` and the like, which stand in names of units for what may not.
fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push_str("\\x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// What the hierarchies of version 1 say of a cgroup of version 2, by the processes in it: where a kubelet uses version 1, the
/// path in version 2 may say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ByVersion1 {
    /// Nothing: none of its processes is in a container.
    #[default]
    Nothing,
    /// All of them are in this one.
    One(Place),
    /// Some are in containers, not all in the same: nobody's packets can be told from the others' by it.
    Shared,
}

impl ByVersion1 {
    /// Of processes as `/proc/<pid>/cgroup` has them.
    pub fn of_processes(processes: impl IntoIterator<Item = String>) -> Self {
        let mut places = processes.into_iter().map(|lines| container_of(&lines));
        let Some(first) = places.next() else {
            return Self::Nothing;
        };
        if places.any(|other| other != first) {
            return Self::Shared;
        }
        first.map_or(Self::Nothing, Self::One)
    }
}

/// The container that a process is in by any of its hierarchies.
fn container_of(lines: &str) -> Option<Place> {
    let paths = lines.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.map(Place::of_path).find(Place::is_contained)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b5d3b0c-5a4c-4f6d-9d7e-1f2a3b4c5d6e";
    const UID_: &str = "0b5d3b0c_5a4c_4f6d_9d7e_1f2a3b4c5d6e";
    const ID: &str = "3f0a9d6c1b2e4f58a7c6d5e4f3b2a1908f7e6d5c4b3a29181706f5e4d3c2b1a0";
    const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn place(path: &str) -> (String, String, String) {
        let path = path
            .replace("UID_", UID_)
            .replace("UID", UID)
            .replace("ID2", OTHER)
            .replace("ID", ID);
        let place = Place::of_path(&path);
        (place.pod, place.container, place.unit)
    }

    #[test]
    fn containers_of_pods_in_every_layout() {
        for path in [
            // cgroupfs: containerd and cri-dockerd, all three levels of service.
            "kubepods/podUID/ID",
            "kubepods/burstable/podUID/ID",
            "kubepods/besteffort/podUID/ID",
            "kubepods/besteffort/podUID/crio-ID",
            // systemd: containerd, CRI-O, Docker.
            "kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-ID.scope",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/docker-ID.scope",
            // CRI-O with crun, and what an init in the container makes.
            "kubepods.slice/kubepods-podUID_.slice/crio-ID.scope/container",
            "kubepods.slice/kubepods-podUID_.slice/crio-ID.scope/system.slice/nginx.service",
            "kubepods/podUID/ID/docker/ID2",
            // containerd that was told of systemd and uses cgroupfs.
            "system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID",
            // A kubelet below a root of its own, and one in a container (kind).
            "custom/kubelet/kubepods/burstable/podUID/ID",
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
            "docker/ID2/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope",
            "/kubepods/podUID/ID",
        ] {
            let expected = (UID.to_owned(), ID.to_owned(), String::new());
            assert_eq!(place(path), expected, "{path}");
        }
    }

    #[test]
    fn a_pod_without_a_container() {
        for path in [
            "kubepods/podUID",
            "kubepods.slice/kubepods-podUID_.slice",
            "kubepods.slice/kubepods-podUID_.slice/crio-conmon-ID.scope",
        ] {
            assert_eq!(
                place(path),
                (UID.to_owned(), String::new(), String::new()),
                "{path}"
            );
        }
        // A static pod is known by the hash of its file.
        let hash = "d4a1e5b2c3f60718293a4b5c6d7e8f90";
        assert_eq!(place(&format!("kubepods/burstable/pod{hash}/ID")).0, hash);
    }

    #[test]
    fn containers_without_kubernetes() {
        for path in [
            "docker/ID",
            "system.slice/docker-ID.scope",
            "machine.slice/libpod-ID.scope/container",
            "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
        ] {
            assert_eq!(
                place(path),
                (String::new(), ID.to_owned(), String::new()),
                "{path}"
            );
        }
    }

    #[test]
    fn units_of_systemd() {
        for (path, unit) in [
            ("system.slice/nginx.service", "nginx.service"),
            (
                "system.slice/system-getty.slice/getty@tty1.service",
                "getty@tty1.service",
            ),
            ("user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            (
                "user.slice/user-1000.slice/user@1000.service/app.slice/shop.service",
                "shop.service",
            ),
            ("system.slice/postgresql.service/worker", "postgresql.service"),
            ("system.slice/dev\\x2ddisk.service", "dev-disk.service"),
            ("init.scope", "init.scope"),
            ("kubepods.slice", ""),
            ("", ""),
            ("a/b", ""),
        ] {
            assert_eq!(
                place(path),
                (String::new(), String::new(), unit.to_owned()),
                "{path}"
            );
        }
    }

    #[test]
    fn what_only_looks_like_a_pod_is_none() {
        for path in [
            "podman.slice",
            "pod-1234",
            "kubepods/pod1234",
            "kubepods/podUIDa/x",
            "shop-podUID_.slice",
            "kubepods-pod.slice",
            "docker/ID9",
        ] {
            assert_eq!(place(path), <(String, String, String)>::default(), "{path}");
        }
    }

    #[test]
    fn version_1_tells_where_all_processes_agree() {
        let lines = |id: &str| {
            format!(
                "9:memory:/kubepods/burstable/pod{UID}/{id}\n1:name=systemd:/kubepods/pod{UID}/{id}\n0::/\n"
            )
        };
        let outside = "9:memory:/system.slice/containerd.service\n0::/\n";
        let said =
            |processes: &[&str]| ByVersion1::of_processes(processes.iter().map(|&lines| lines.to_owned()));
        let (first, second) = (lines(ID), lines(OTHER));
        let one = ByVersion1::One(Place::of_path(&format!("kubepods/pod{UID}/{ID}")));
        assert_eq!(said(&[&first, &first]), one);
        assert_eq!(said(&[&first, &second]), ByVersion1::Shared);
        assert_eq!(said(&[&first, outside]), ByVersion1::Shared);
        assert_eq!(said(&[outside, outside, &first]), ByVersion1::Shared);
        assert_eq!(said(&[outside, outside]), ByVersion1::Nothing);
        assert_eq!(said(&[]), ByVersion1::Nothing);
    }
}
