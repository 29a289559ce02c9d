//! Where tools are run: in this process, or by a hub that is asked over HTTP.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::api::tools::{self, Answer, DEFAULT_BYTES, Follow, MAX_BYTES, Run, Tool};
use crate::api::{ApiError, App};

/// Longest wait for another hub's answer; tools answer within 30 s.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest wait for a connection to it.
const CONNECT: Duration = Duration::from_secs(5);

/// Between two looks at which snapshots and dissections there are at another hub, for who wants to hear of changes.
const CHANGES_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at work that is under way there.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What the status of such work is.
const UNDER_WAY: [&str; 3] = ["in_progress", "pending", "running"];

/// Where tools are run.
#[derive(Clone)]
pub(in crate::api) enum Backend {
    /// Here.
    Here(App),
    /// Elsewhere.
    There(Remote),
}

/// Another hub.
#[derive(Clone, Debug)]
pub struct Remote {
    url: Url,
    client: reqwest::Client,
}

impl Backend {
    /// Calls a tool, within the budget that an assistant gets.
    pub(super) async fn call(
        &self,
        tool: &'static Tool,
        mut arguments: Map<String, Value>,
        follow: &Follow,
    ) -> Result<Answer, ApiError> {
        let work = async {
            match self {
                Self::Here(app) => tools::call(app, tool, arguments, Some(DEFAULT_BYTES), follow).await,
                Self::There(remote) => {
                    arguments.entry("max_bytes").or_insert(json!(DEFAULT_BYTES));
                    match tool.run {
                        Run::Followed(_) if follow.is_heard() => remote.follow(tool, arguments, follow).await,
                        _ => remote.call(tool.name, arguments).await,
                    }
                    .map(Answer::from)
                }
            }
        };
        match (tool.run, self) {
            // What is followed cleans up behind itself.
            (Run::Followed(_), _) => work.await,
            _ => tokio::select! {
                answer = work => answer,
                () = follow.cancelled() => Err(ApiError::conflict("called off")),
            },
        }
    }

    /// How often what there is has changed.
    pub(super) async fn changes(&self) -> watch::Receiver<u64> {
        match self {
            Self::Here(app) => app.hub.catalogue.changes(),
            Self::There(remote) => remote.changes().await,
        }
    }

    /// Calls a tool by its name, for ourselves.
    pub(super) async fn ask(&self, name: &str, arguments: Value) -> Result<Value, ApiError> {
        let tool = tools::find(name)?;
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let answer = self
            .call(tool, arguments, &Follow::quiet(Default::default()))
            .await?;
        Ok(answer.value)
    }
}

/// Whether an answer is about work that goes on.
fn is_under_way(answer: &Value) -> bool {
    answer["status"]
        .as_str()
        .is_some_and(|status| UNDER_WAY.contains(&status))
}

impl Remote {
    /// The hub at this URL, e.g. `http://127.0.0.1:8898`, with or without `/api` or `/mcp` behind it.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        let base = url.trim_end_matches('/').trim_end_matches("/mcp");
        let wrong = |error: &dyn std::fmt::Display| {
            ApiError::bad_request(format!(
                "`{url}` is no URL of a hub ({error}); write e.g. http://127.0.0.1:8898"
            ))
        };
        let url = Url::parse(&format!("{base}/")).map_err(|error| wrong(&error))?;
        let client = reqwest::Client::builder()
            .timeout(ANSWER)
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| wrong(&error))?;
        Ok(Self { url, client })
    }

    async fn call(&self, name: &str, arguments: Map<String, Value>) -> Result<Value, ApiError> {
        let url = self.at("mcp/tools/call")?;
        let asked = json!({ "name": name, "arguments": arguments });
        let answer = self.client.post(url).json(&asked).send().await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let answer: Value = answer.json().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(answer);
        }
        let told = answer["error"].as_str().unwrap_or("no reason is given");
        Err(ApiError::unavailable(told))
    }

    /// Calls a tool whose work takes its time, and asks how far it is until it is done.
    async fn follow(
        &self,
        tool: &'static Tool,
        mut arguments: Map<String, Value>,
        follow: &Follow,
    ) -> Result<Value, ApiError> {
        follow.step(0.0, format!("asking the hub at {}", self.url));
        let (remote, asked) = (self.clone(), arguments.clone());
        let mut first = Box::pin(async move { remote.call(tool.name, asked).await });
        let mut answer = tokio::select! {
            answer = &mut first => answer?,
            () = follow.cancelled() => {
                let remote = self.clone();
                // What the hub has begun, only its answer tells.
                tokio::spawn(async move {
                    if let Ok(answer) = first.await && is_under_way(&answer) {
                        remote.give_up(tool, &answer).await;
                    }
                });
                return Err(ApiError::conflict(
                    "called off: what was begun at the hub is given up as soon as it has answered",
                ));
            }
        };
        loop {
            if !is_under_way(&answer) {
                return Ok(answer);
            }
            if follow.is_cancelled() {
                return Err(self.give_up(tool, &answer).await);
            }
            let percent = answer["progress"]
                .as_f64()
                .or(answer["progress"]["percent"].as_f64());
            follow.step(percent.unwrap_or_default(), format!("{} is under way", tool.name));
            follow.pause(LOOK_EVERY).await;
            let id = |of: &str| answer.pointer(of).cloned().unwrap_or_default();
            let look = match tool.name {
                "create_snapshot" => self.look("get_snapshot", json!({ "id": id("/id") })).await?,
                "start_snapshot_dissection" => {
                    let asked = json!({ "dissection_id": id("/dissection_id") });
                    self.look("get_snapshot_dissection_status", asked).await?
                }
                // Goes on where it was.
                name => {
                    arguments.insert("snapshot_id".to_owned(), id("/snapshot/id"));
                    tokio::select! {
                        look = self.call(name, arguments.clone()) => look?,
                        () = follow.cancelled() => continue,
                    }
                }
            };
            if tool.name == "create_snapshot" {
                for member in [
                    "status",
                    "reason",
                    "progress",
                    "packet_count",
                    "size_bytes",
                    "lost_packets",
                ] {
                    answer[member] = look[member].clone();
                }
            } else {
                answer = look;
            }
        }
    }

    /// Ends at the hub what is under way there for somebody who has called it off.
    async fn give_up(&self, tool: &Tool, answer: &Value) -> ApiError {
        let given_up = match tool.name {
            "create_snapshot" => self.look("delete_snapshot", json!({ "id": answer["id"] })).await,
            "start_snapshot_dissection" => self.stop(&answer["dissection_id"]).await,
            _ => {
                let id = &answer["snapshot"]["id"];
                match self
                    .look("get_snapshot_dissection_status", json!({ "snapshot_id": id }))
                    .await
                {
                    Ok(job) if is_under_way(&job) => self.stop(&job["dissection_id"]).await,
                    _ if answer["snapshot"]["reused"] == false => {
                        self.look("delete_snapshot", json!({ "id": id })).await
                    }
                    other => other,
                }
            }
        };
        match given_up {
            Ok(_) => ApiError::conflict("called off: what was under way at the hub is given up"),
            Err(error) => {
                ApiError::conflict(format!("called off; at the hub it goes on: {}", error.message()))
            }
        }
    }

    async fn stop(&self, dissection: &Value) -> Result<Value, ApiError> {
        self.look("stop_snapshot_dissection", json!({ "dissection_id": dissection }))
            .await
    }

    /// How often its snapshots and dissections have changed, as far as is seen by looking now and then, as long as
    /// somebody wants to know.
    async fn changes(&self) -> watch::Receiver<u64> {
        let (told, changes) = watch::channel(0);
        let remote = self.clone();
        let mut known = remote.listed().await;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(CHANGES_EVERY) => {}
                    () = told.closed() => return,
                }
                // While it does not answer, nothing is known to have changed.
                let Ok(now) = remote.listed().await else { continue };
                if known.as_ref().ok() != Some(&now) {
                    told.send_modify(|times| *times += 1);
                }
                known = Ok(now);
            }
        });
        changes
    }

    /// The ids and states of its snapshots and dissections.
    async fn listed(&self) -> Result<Vec<String>, ApiError> {
        let mut listed = Vec::new();
        for (tool, rows) in [
            ("list_snapshots", "snapshots"),
            ("list_snapshot_dissections", "dissections"),
        ] {
            let answer = self.look(tool, json!({ "max_bytes": MAX_BYTES })).await?;
            let rows = answer[rows].as_array().into_iter().flatten();
            listed.extend(rows.map(|row| format!("{tool} {} {}", row["id"], row["status"])));
        }
        Ok(listed)
    }

    async fn look(&self, name: &str, asked: Value) -> Result<Value, ApiError> {
        self.call(name, asked.as_object().cloned().unwrap_or_default())
            .await
    }

    /// The bytes of an answer, if there are no more than so many.
    pub(super) async fn bytes(&self, path: &str, most: usize) -> Result<Vec<u8>, ApiError> {
        let url = self.at(path.trim_start_matches('/'))?;
        let answer = self.client.get(url).send().await;
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            let told = answer.text().await.unwrap_or_default();
            return Err(ApiError::unavailable(format!("the hub says: {told}")));
        }
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            bytes.extend_from_slice(&part);
            if bytes.len() > most {
                return Err(super::resources::too_long(most));
            }
        }
        Ok(bytes)
    }

    fn at(&self, path: &str) -> Result<Url, ApiError> {
        self.url.join(path).map_err(ApiError::internal)
    }

    fn unreachable(&self, error: &reqwest::Error) -> ApiError {
        ApiError::unavailable(format!(
            "the hub at {} does not answer ({error}); check that it runs and that --hub is its URL",
            self.url
        ))
    }
}
