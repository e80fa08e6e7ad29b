//! What an image takes over from the configuration of its base, as Docker does for `FROM`.

use serde_json::{Map, Value};

use crate::model::base::Inherited;

/// Keys of `config` that are the image's own if it sets them, else the base's.
const REPLACED: [&str; 6] =
    ["Entrypoint", "Cmd", "User", "WorkingDir", "StopSignal", "Healthcheck"];
/// Keys that are joined, the image's own winning.
const JOINED: [&str; 3] = ["ExposedPorts", "Volumes", "Labels"];

/// Adds what `base` gives to the configuration `document` of an image, whose history and diff
/// IDs are those of its own layers; `diff_ids` are the base's. An entrypoint of its own ends
/// the base's arguments. Build triggers, which nothing here runs, are left out.
pub fn inherit(document: &mut Value, base: &Inherited, diff_ids: Vec<Value>) {
    let lower = base.config.as_object().cloned().unwrap_or_default();
    let own = document["config"].as_object().cloned().unwrap_or_default();
    let mut config = Map::new();
    for key in REPLACED {
        let keeps = key != "Cmd" || !own.contains_key("Entrypoint");
        let value = own.get(key).or_else(|| lower.get(key).filter(|value| keeps && is_set(value)));
        if let Some(value) = value {
            config.insert(key.to_owned(), value.clone());
        }
    }
    for key in JOINED {
        let mut all = object(lower.get(key));
        all.extend(object(own.get(key)));
        if !all.is_empty() {
            config.insert(key.to_owned(), Value::Object(all));
        }
    }
    config.insert("Env".to_owned(), environment(lower.get("Env"), own.get("Env")));
    for (key, value) in own {
        config.entry(key).or_insert(value);
    }
    document["config"] = Value::Object(config);
    let mut history = history(base);
    let mut all = diff_ids;
    append(&mut history, &mut document["history"]);
    append(&mut all, &mut document["rootfs"]["diff_ids"]);
    document["history"] = Value::Array(history);
    document["rootfs"]["diff_ids"] = Value::Array(all);
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

fn append(all: &mut Vec<Value>, more: &mut Value) {
    if let Value::Array(more) = more.take() {
        all.extend(more);
    }
}

/// The base's variables in their order, with the image's values; then the image's other ones.
fn environment(lower: Option<&Value>, own: Option<&Value>) -> Value {
    let texts = |value: Option<&Value>| -> Vec<String> {
        let items = value.and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let name = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned();
    let mut all = texts(lower);
    for pair in texts(own) {
        match all.iter_mut().find(|known| name(known) == name(&pair)) {
            Some(known) => *known = pair,
            None => all.push(pair),
        }
    }
    all.into()
}

/// The base's history, if it has one entry for each layer as the specification demands; else
/// one that says no more than that the layers are the base's.
fn history(base: &Inherited) -> Vec<Value> {
    let is_empty = |entry: &&Value| entry.get("empty_layer") == Some(&Value::Bool(true));
    let filled = base.history.iter().filter(|entry| !is_empty(entry)).count();
    if filled == base.layers {
        return base.history.clone();
    }
    let entry = serde_json::json!({ "created_by": format!("layer of {}", base.name) });
    vec![entry; base.layers]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Digest;

    #[test]
    fn own_keys_come_before_the_bases() {
        let base = Inherited {
            name: "x.example/base:1".into(),
            digest: Digest::of(b"x"),
            config: json!({
                "Env": ["PATH=/opt/bin", "A=1", "B=2"], "Cmd": ["sh"], "User": "app",
                "Entrypoint": null, "WorkingDir": "/srv", "Labels": {"a": "1", "b": "1"},
                "ExposedPorts": {"80/tcp": {}}, "OnBuild": ["RUN x"], "Hostname": "",
                "Healthcheck": {"Test": ["NONE"]},
            }),
            history: vec![json!({"created_by": "a"}), json!({"empty_layer": true})],
            layers: 1,
        };
        let own = json!({
            "config": {
                "Env": ["B=3", "C=4"], "Labels": {"b": "2"}, "ExposedPorts": {"81/tcp": {}},
                "User": "65532",
            },
            "history": [{"created_by": "own"}],
            "rootfs": {"type": "layers", "diff_ids": ["own"]},
        });
        let mut document = own.clone();
        inherit(&mut document, &base, vec!["low".into()]);
        let expected = json!({
            "config": {
                "Env": ["PATH=/opt/bin", "A=1", "B=3", "C=4"], "Cmd": ["sh"], "User": "65532",
                "WorkingDir": "/srv", "Labels": {"a": "1", "b": "2"},
                "ExposedPorts": {"80/tcp": {}, "81/tcp": {}}, "Healthcheck": {"Test": ["NONE"]},
            },
            "history": [{"created_by": "a"}, {"empty_layer": true}, {"created_by": "own"}],
            "rootfs": {"type": "layers", "diff_ids": ["low", "own"]},
        });
        assert_eq!(document, expected);
        let mut document = own;
        document["config"]["Entrypoint"] = json!(["/x"]);
        inherit(&mut document, &Inherited { layers: 2, ..base }, vec![]);
        assert_eq!(document["config"].get("Cmd"), None);
        assert_eq!(document["history"].as_array().unwrap().len(), 3);
    }
}
