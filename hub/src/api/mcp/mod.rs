//! The hub as an MCP server: its tools, with prompts and resources, for any assistant. Everything it answers comes out of
//! the table of tools, be the hub this process or another one.

mod door;

mod stdio;

mod backend;

mod answer;

mod prompts;

mod resources;

mod complete;

mod changes;

use std::borrow::Cow;
use std::sync::LazyLock;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, GetPromptRequestParams,
    GetPromptResponse, Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams,
    ReadResourceResponse, ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter,
    Tool as Listed, ToolAnnotations, UnsubscribeRequestParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ApiError;
use super::tools::{self, Answer, Effect, Follow, Step, Tool};
pub(super) use backend::Backend;
pub use backend::Remote;
use changes::Watched;
pub(super) use door::Door;
pub(super) use prompts::PROMPTS;
pub(super) use stdio::speak;

/// What every assistant is told when it connects.
const INSTRUCTIONS: &str = include_str!("instructions.md");

/// Least percents between two notifications of progress: a client has better things to do.
const PERCENTS: f64 = 1.0;

/// The server of one session.
pub(super) struct Server {
    backend: Backend,
    watched: Watched,
    /// Cancelled when the session has ended, and the server is dropped with it.
    ended: CancellationToken,
    _ends: DropGuard,
}

impl Server {
    pub(super) fn new(backend: Backend) -> Self {
        let ended = CancellationToken::new();
        Self {
            backend,
            watched: Watched::default(),
            ended: ended.clone(),
            _ends: ended.drop_guard(),
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_completions()
            .build();
        let name = Implementation::new("wiretape", env!("CARGO_PKG_VERSION"))
            .with_title("Wiretape")
            .with_description("Recorded network traffic of a cluster, as API calls and packets");
        ServerConfig::new(capabilities)
            .with_server_info(name)
            .with_instructions(INSTRUCTIONS)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let (backend, watched) = (self.backend.clone(), self.watched.clone());
        tokio::spawn(changes::tell(context.peer, backend, watched, self.ended.clone()));
    }

    fn accepted_subscription_filter(&self, asked: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let watched = asked.resource_subscriptions.clone().unwrap_or_default();
        let accepted = SubscriptionFilter::builder().resources_list_changed();
        Some(accepted.resource_subscriptions(watched).build())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let added = self.watched.add(&self.backend, &request.uri).await;
        added.map_err(|error| invalid(&error))
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.watched.remove(&request.uri);
        Ok(())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        changes::tell_subscriber(context, self.backend.clone()).await;
        Ok(())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(LISTED.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Listed> {
        LISTED.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // A tool that is not there is an error of the protocol; all others are for the assistant to read.
        let tool = tools::find(&request.name).map_err(|error| invalid(&error))?;
        let arguments = request.arguments.unwrap_or_default();
        let answer = self.run(tool, arguments, &context).await;
        Ok(answer::shown(tool, answer).into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(
            PROMPTS.iter().map(prompts::listed).collect(),
        ))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let prompt = prompts::get(&request.name, &arguments).map_err(|error| invalid(&error))?;
        Ok(prompt.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let all = resources::list(&self.backend)
            .await
            .map_err(|error| internal(&error))?;
        Ok(ListResourcesResult::with_all_items(all))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let read = resources::read(&self.backend, &request.uri).await;
        read.map(Into::into)
            .map_err(|error| ErrorData::resource_not_found(error.message().to_owned(), None))
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let found = complete::values(&self.backend, &request.argument.name, &request.argument.value).await;
        Ok(CompleteResult::new(found))
    }
}

impl Server {
    /// Runs a tool to its end, telling of its progress whoever wants to hear of it.
    async fn run(
        &self,
        tool: &'static Tool,
        arguments: Map<String, Value>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, ApiError> {
        let cancelled = context.ct.clone();
        let Some(token) = context.meta.get_progress_token() else {
            let follow = Follow::quiet(cancelled);
            return self.backend.call(tool, arguments, &follow).await;
        };
        let (told, mut steps) = watch::channel(Step::default());
        let follow = Follow::heard(told, cancelled);
        let work = self.backend.call(tool, arguments, &follow);
        tokio::pin!(work);
        let mut last = -PERCENTS;
        loop {
            tokio::select! {
                answer = &mut work => return answer,
                changed = steps.changed() => {
                    let step = steps.borrow_and_update().clone();
                    if changed.is_err() || step.percent < last + PERCENTS {
                        continue;
                    }
                    last = step.percent;
                    let told = ProgressNotificationParam::new(token.clone(), step.percent)
                        .with_total(100.0)
                        .with_message(step.message);
                    if context.peer.notify_progress(told).await.is_err() {
                        tracing::debug!(tool = tool.name, "nobody hears of its progress any more");
                    }
                }
            }
        }
    }
}

/// All tools as clients list them. Their schemas are made once: rmcp asks for one with every call.
static LISTED: LazyLock<Vec<Listed>> = LazyLock::new(|| tools::all().map(listed).collect());

fn listed(tool: &Tool) -> Listed {
    let annotations = ToolAnnotations::with_title(tool.title)
        .read_only(tool.effect == Effect::Reads)
        .destructive(tool.effect == Effect::Removes)
        .idempotent(tool.effect != Effect::Adds)
        .open_world(false);
    Listed::new(
        Cow::Borrowed(tool.name),
        Cow::Borrowed(tool.description),
        tools::input(tool),
    )
    .with_title(tool.title)
    .with_raw_output_schema(std::sync::Arc::new(tools::output(tool)))
    .with_annotations(annotations)
}

fn invalid(error: &ApiError) -> ErrorData {
    ErrorData::invalid_params(error.message().to_owned(), None)
}

fn internal(error: &ApiError) -> ErrorData {
    ErrorData::internal_error(error.message().to_owned(), None)
}
