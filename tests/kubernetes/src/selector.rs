//! `fieldSelector` and `labelSelector`.

use serde_json::Value;

/// What an object must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    fields: Vec<(String, Test)>,
    labels: Vec<(String, Test)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Present,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads both; `Err` says what is not understood.
    pub fn parse(fields: &str, labels: &str) -> Result<Self, String> {
        let parse = |text: &str| -> Result<Vec<(String, Test)>, String> {
            split(text).into_iter().map(requirement).collect()
        };
        let selector = Self {
            fields: parse(fields)?,
            labels: parse(labels)?,
        };
        match selector
            .fields
            .iter()
            .find(|(_, test)| matches!(test, Test::Present | Test::Absent))
        {
            Some((field, _)) => Err(format!("field selector {field:?} compares with nothing")),
            None => Ok(selector),
        }
    }

    /// Whether the object is like that.
    pub fn fits(&self, object: &Value) -> bool {
        let field = |path: &str| {
            let found = path.split('.').try_fold(object, |at, part| at.get(part));
            // A field that is not there compares as empty.
            found.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let label = |name: &str| {
            let found = object.pointer("/metadata/labels")?.get(name)?;
            Some(found.as_str()?.to_owned())
        };
        self.fields
            .iter()
            .all(|(path, test)| test.holds(Some(&field(path))))
            && self
                .labels
                .iter()
                .all(|(name, test)| test.holds(label(name).as_ref()))
    }
}

impl Test {
    fn holds(&self, value: Option<&String>) -> bool {
        match (self, value) {
            (Self::Present, value) => value.is_some(),
            (Self::Absent, value) => value.is_none(),
            (Self::In(values), value) => value.is_some_and(|value| values.contains(value)),
            (Self::NotIn(values), value) => value.is_none_or(|value| !values.contains(value)),
        }
    }
}

/// At commas, but not at those within brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(text: &str) -> Result<(String, Test), String> {
    let values = |text: &str| text.split(',').map(|value| value.trim().to_owned()).collect();
    let set = |text: &str| Some(values(text.trim().strip_prefix('(')?.strip_suffix(')')?));
    let (name, test) = if let Some((name, list)) = text.split_once(" notin ") {
        (
            name,
            Test::NotIn(set(list).ok_or_else(|| format!("no list in {text:?}"))?),
        )
    } else if let Some((name, list)) = text.split_once(" in ") {
        (
            name,
            Test::In(set(list).ok_or_else(|| format!("no list in {text:?}"))?),
        )
    } else if let Some((name, value)) = text.split_once("!=") {
        (name, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (name, Test::In(vec![value.trim().to_owned()]))
    } else if let Some(name) = text.strip_prefix('!') {
        (name, Test::Absent)
    } else {
        (text, Test::Present)
    };
    Ok((name.trim().to_owned(), test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_labels_select() {
        let pod = json!({
            "metadata": { "name": "a", "labels": { "app": "cart", "tier": "back" } },
            "spec": { "nodeName": "node-1" },
        });
        let fits = |fields, labels| Selector::parse(fields, labels).map(|selector| selector.fits(&pod));
        for (fields, labels) in [
            ("", ""),
            ("spec.nodeName=node-1", ""),
            ("spec.nodeName==node-1,metadata.name!=b", ""),
            ("", "app=cart,tier"),
            ("", "app in (cart, x),!other,tier notin (front,middle)"),
            ("", "other!=x"),
        ] {
            assert_eq!(fits(fields, labels), Ok(true), "{fields} {labels}");
        }
        for (fields, labels) in [
            ("spec.nodeName=node-2", ""),
            ("", "app=x"),
            ("", "!app"),
            ("", "other in (a)"),
        ] {
            assert_eq!(fits(fields, labels), Ok(false), "{fields} {labels}");
        }
        assert!(fits("spec.nodeName", "").is_err());
    }
}
