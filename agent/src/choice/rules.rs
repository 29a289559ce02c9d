//! Rules by workload -> rules by cgroup, as the kernel has them.

use std::collections::{BTreeMap, HashMap};

use wiretape_agent_ebpf::choice::Rule as KernelRule;
use wiretape_tape::{Match, Name, Rule};

use crate::attribution::ledger::MAX_CGROUPS;
use crate::attribution::workloads;

/// What is known of cgroups, and the rule of each.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// At most [`MAX_CGROUPS`].
    known: HashMap<u64, Known>,
    forgotten: u64,
}

/// What rules ask for.
#[derive(Debug, Default)]
struct Known {
    namespace: String,
    pod: String,
    labels: BTreeMap<String, String>,
    path: String,
    rule: Option<KernelRule>,
}

impl Rules {
    /// Takes names in; gives the cgroups whose rule is another now.
    pub fn learn(&mut self, names: &[Name], rules: &[Rule]) -> BTreeMap<u64, Option<KernelRule>> {
        let mut changes = BTreeMap::new();
        // The last that is said of a cgroup holds: it may end and begin in one breath.
        for name in names.iter().filter(|name| name.cgroup != 0) {
            if name.until.is_some() {
                if self
                    .known
                    .get(&name.cgroup)
                    .is_some_and(|known| known.rule.is_some())
                {
                    changes.insert(name.cgroup, None);
                }
                self.known.remove(&name.cgroup);
                continue;
            }
            if self.known.len() >= MAX_CGROUPS && !self.known.contains_key(&name.cgroup) {
                self.forgotten += 1;
                continue;
            }
            let known = Known {
                namespace: name.namespace.clone(),
                pod: name.pod.clone(),
                labels: name.labels.clone(),
                path: name.cgroup_path.clone(),
                rule: None,
            };
            let rule = known.judge(rules);
            let before = self.known.insert(name.cgroup, Known { rule, ..known });
            if rule.is_some() || before.is_some_and(|before| before.rule.is_some()) {
                changes.insert(name.cgroup, rule);
            }
        }
        changes
    }

    /// Other rules hold; gives the cgroups whose rule is another now.
    pub fn ask(&mut self, rules: &[Rule]) -> BTreeMap<u64, Option<KernelRule>> {
        let mut changes = BTreeMap::new();
        for (cgroup, known) in &mut self.known {
            let rule = known.judge(rules);
            if rule != known.rule {
                known.rule = rule;
                changes.insert(*cgroup, rule);
            }
        }
        changes
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Known {
    fn judge(&self, rules: &[Rule]) -> Option<KernelRule> {
        let rule = rules.iter().find(|rule| self.meets(&rule.r#match))?;
        Some(super::rule(rule.record))
    }

    fn meets(&self, asked: &Match) -> bool {
        let fits = |pattern: &str, text: &str| pattern.is_empty() || workloads::matches(pattern, text);
        fits(&asked.namespace, &self.namespace)
            && fits(&asked.pod, &self.pod)
            && (asked.cgroup.is_empty()
                || workloads::above(&self.path).any(|path| workloads::matches(&asked.cgroup, path)))
            && asked
                .labels
                .iter()
                .all(|(label, value)| self.labels.get(label) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use wiretape_agent_ebpf::choice::detail;
    use wiretape_tape::Record;

    use super::*;

    fn name(cgroup: u64, namespace: &str, pod: &str) -> Name {
        Name {
            cgroup,
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            cgroup_path: format!("kubepods/{pod}/main"),
            ..Name::default()
        }
    }

    fn rules() -> Vec<Rule> {
        let of = |r#match, record| Rule { r#match, record };
        let namespace = "pay*".to_owned();
        let cgroup = "kubepods/batch*".to_owned();
        vec![
            of(
                Match {
                    namespace,
                    ..Match::default()
                },
                Record::None,
            ),
            of(
                Match {
                    cgroup,
                    ..Match::default()
                },
                Record::First(10),
            ),
        ]
    }

    fn details(changes: BTreeMap<u64, Option<KernelRule>>) -> Vec<(u64, Option<u32>)> {
        let detail = |(cgroup, rule): (u64, Option<KernelRule>)| (cgroup, rule.map(|rule| rule.detail));
        changes.into_iter().map(detail).collect()
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_only_changes_are_told() {
        let mut known = Rules::default();
        let names = [
            name(1, "shop", "front"),
            name(2, "payments", "batch-1"),
            name(3, "shop", "batch-2"),
        ];
        let changes = known.learn(&names, &rules());
        assert_eq!(
            details(changes),
            [(2, Some(detail::NONE)), (3, Some(detail::FIRST))]
        );
        assert_eq!(details(known.ask(&[])), [(2, None), (3, None)]);
        assert_eq!(details(known.ask(&rules()[..1])), [(2, Some(detail::NONE))]);
    }

    #[test]
    fn a_cgroup_that_ends_loses_its_rule_unless_it_goes_on_under_another_name() {
        let mut known = Rules::default();
        known.learn(&[name(2, "payments", "a")], &rules());
        let end = Name {
            until: Some(5),
            ..name(2, "payments", "a")
        };
        let changes = known.learn(&[end.clone(), name(2, "payments", "b")], &rules());
        assert_eq!(details(changes), [(2, Some(detail::NONE))]);
        assert_eq!(details(known.learn(slice::from_ref(&end), &rules())), [(2, None)]);
        // A pod whose labels change: it goes on as one that no rule is for.
        known.learn(&[name(2, "payments", "a")], &rules());
        let changes = known.learn(&[end, name(2, "shop", "a")], &rules());
        assert_eq!(details(changes), [(2, None)]);
    }

    #[test]
    fn no_more_cgroups_are_remembered_than_there_may_be() {
        let mut known = Rules::default();
        let names: Vec<Name> = (1..=MAX_CGROUPS as u64 + 3)
            .map(|id| name(id, "shop", "a"))
            .collect();
        known.learn(&names, &rules());
        assert_eq!((known.known.len(), known.forgotten()), (MAX_CGROUPS, 3));
    }
}
