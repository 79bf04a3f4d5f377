//! `spikewing call`: calls a service of a running node, over DDS, with nothing of ROS 2 installed.

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use clap::Args;
use serde_json::{Map, Value};
use spikewing_msgs::{AnyMessage, Message};
use spikewing_runtime::{
    Node, NodeOptions, Outbox, Received, Time,
    dds::{self, DdsConfig},
    local::chain,
    node::{CallId, Effect, Finish, Response},
    port::{Interface, ServiceEnd},
};

/// How long a service is looked for.
const SEARCH: Duration = Duration::from_secs(4);
/// A list is complete when nothing has been added for so long.
const QUIET: Duration = Duration::from_millis(700);
/// The field by which an empty message is one octet long on the wire.
const PADDING: &str = "structure_needs_at_least_one_member";

/// The service said no.
const REFUSED: u8 = 1;
/// The request makes no sense.
const WRONG: u8 = 2;
/// The service was not reached.
const UNREACHED: u8 = 3;

/// Call a service of a running node: arm, land, stop, swap a policy …
///
/// Exit status: 0 done, 1 the service answered that it was not, 2 the request is wrong, 3 no such service or no answer.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Service, e.g. supervisor/arm or /drone_0/snn_policy/swap_policy
    #[arg(required_unless_present = "list")]
    service: Option<String>,
    /// Request in YAML, e.g. '{path: policies/crazyflie/student.safetensors}'; what is left out has its default. `@FILE` for a
    /// field of bytes stands for the file's content
    request: Option<String>,
    /// List the services that can be called, without those for parameters, and end
    #[arg(long)]
    list: bool,
    /// … with those for parameters
    #[arg(long, requires = "list")]
    all: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Dds(#[from] dds::DdsError),
    #[error("no service {service}{}; is its node running, in this domain (ROS_DOMAIN_ID)? `spikewing call --list` shows what is there", nearest(.service, .known))]
    Absent { service: String, known: Vec<String> },
    #[error("{service} is a {ros_type}, which this program does not know")]
    Foreign { service: String, ros_type: String },
    #[error("the request is no YAML mapping: {0}; expected for example '{{data: true}}'")]
    Yaml(String),
    #[error("{ros_type} has no field `{field}`; it has: {fields}")]
    Field { ros_type: String, field: String, fields: String },
    #[error("field `{field}`: {reason}")]
    Value { field: String, reason: String },
    #[error("{0}")]
    Unanswered(String),
}

fn nearest(service: &str, known: &[String]) -> String {
    let best = known.iter().map(|k| (strsim::jaro_winkler(k, service), k)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(similarity, _)| *similarity > 0.8)
        .map(|(_, k)| format!("; did you mean {k}?"))
        .unwrap_or_default()
}

impl CallArgs {
    /// Runs the command.
    pub fn run(&self) -> ExitCode {
        match self.outcome() {
            Ok(code) => code,
            Err(error) => {
                eprintln!("spikewing: {}", chain(&error));
                ExitCode::from(match error {
                    CallError::Yaml(_) | CallError::Field { .. } | CallError::Value { .. } => WRONG,
                    _ => UNREACHED,
                })
            }
        }
    }

    fn outcome(&self) -> Result<ExitCode, CallError> {
        let config = DdsConfig::from_env()?;
        let Some(service) = self.service.as_deref().filter(|_| !self.list) else {
            let known = dds::services(&config, SEARCH, QUIET, |_| false)?;
            for (name, ros_type) in
                known.iter().filter(|(_, t)| self.all || !t.starts_with("rcl_interfaces/"))
            {
                println!("{name} [{ros_type}]");
            }
            return Ok(ExitCode::SUCCESS);
        };
        let service = format!("/{}", service.trim_matches('/'));
        let known = dds::services(&config, SEARCH, SEARCH, |known| known.contains_key(&service))?;
        let ros_type = known.get(&service).ok_or_else(|| CallError::Absent {
            service: service.clone(),
            known: known.keys().cloned().collect(),
        })?;
        let request = request_of(&service, ros_type, self.request.as_deref().unwrap_or("{}"))?;
        let answer = call(&config, &service, ros_type, request)?;
        if self.json {
            println!("{answer}");
        } else {
            print!("{}", serde_yaml::to_string(&answer).unwrap_or_else(|_| answer.to_string()));
        }
        let refused = answer.get("success") == Some(&Value::Bool(false));
        Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
    }
}

/// A request of a service's type from YAML.
fn request_of(service: &str, ros_type: &str, text: &str) -> Result<AnyMessage, CallError> {
    let given: Value = serde_yaml::from_str(text).map_err(|e| CallError::Yaml(e.to_string()))?;
    let given = match given {
        Value::Object(given) => given,
        Value::Null => Map::new(),
        other => return Err(CallError::Yaml(other.to_string())),
    };
    let wanted = format!("{ros_type}_Request");
    macro_rules! entry {
        ($message:ty, $name:expr) => {
            if wanted == <$message as Message>::TYPE {
                return filled::<$message>(ros_type, &given).map(Message::wrap);
            }
        };
    }
    spikewing_msgs::for_each_message!(entry);
    Err(CallError::Foreign { service: service.to_owned(), ros_type: ros_type.to_owned() })
}

/// The default message with the given fields in it.
fn filled<M: Message>(ros_type: &str, given: &Map<String, Value>) -> Result<M, CallError> {
    let wrong = |field: &str, reason: String| CallError::Value { field: field.to_owned(), reason };
    let mut whole = serde_json::to_value(M::default()).map_err(|e| wrong("", e.to_string()))?;
    let mut message = M::default();
    for (name, value) in given {
        insert(&mut whole, name, name, value.clone(), ros_type)?;
        // One after the other, so that a mistake is told of the right one.
        message = serde_json::from_value(whole.clone()).map_err(|e| wrong(name, e.to_string()))?;
    }
    Ok(message)
}

/// Puts a value, or the parts of one that are given, into its place.
fn insert(whole: &mut Value, path: &str, name: &str, value: Value, ros_type: &str) -> Result<(), CallError> {
    let fields: Vec<String> =
        whole.as_object().map(|o| o.keys().filter(|k| *k != PADDING).cloned().collect()).unwrap_or_default();
    let Some(place) = whole.get_mut(name).filter(|_| name != PADDING) else {
        let fields = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
        return Err(CallError::Field { ros_type: ros_type.to_owned(), field: path.to_owned(), fields });
    };
    match (place, value) {
        (place @ Value::Object(_), Value::Object(parts)) => {
            for (part, value) in parts {
                insert(place, &format!("{path}.{part}"), &part, value, ros_type)?;
            }
        }
        (place @ Value::Array(_), Value::String(text)) if text.starts_with('@') => {
            let file = Path::new(text.trim_start_matches('@'));
            let reason = |e| format!("{}: {e}", file.display());
            let bytes = std::fs::read(file)
                .map_err(|e| CallError::Value { field: path.to_owned(), reason: reason(e) })?;
            *place = Value::from(bytes);
        }
        (place, value) => *place = value,
    }
    Ok(())
}

/// A message as a JSON object.
fn in_json(message: &AnyMessage) -> Value {
    macro_rules! entry {
        ($message:ty, $name:expr) => {
            if let Some(message) = <$message as Message>::peel(message) {
                let mut value = serde_json::to_value(message).unwrap_or_default();
                if let Some(object) = value.as_object_mut() {
                    object.remove(PADDING);
                }
                return value;
            }
        };
    }
    spikewing_msgs::for_each_message!(entry);
    Value::Null
}

/// Calls, and waits for the answer.
fn call(config: &DdsConfig, service: &str, ros_type: &str, request: AnyMessage) -> Result<Value, CallError> {
    let answer: Answer = Arc::default();
    let caller = Caller {
        // Lives as long as this command.
        service: service.to_owned().leak(),
        ros_type: ros_type.to_owned().leak(),
        request: Some(request),
        answer: Arc::clone(&answer),
    };
    let name = format!("call_{}", std::process::id());
    let options = NodeOptions { name, namespace: "/".to_owned(), ..NodeOptions::default() };
    dds::run_node(Box::new(caller), &options, config, &AtomicBool::new(false))?;
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer.unwrap_or_else(|| Err("no answer".to_owned())).map_err(CallError::Unanswered)
}

type Answer = Arc<Mutex<Option<Result<Value, String>>>>;

/// A node that calls once.
struct Caller {
    service: &'static str,
    ros_type: &'static str,
    request: Option<AnyMessage>,
    answer: Answer,
}

impl Node for Caller {
    fn interface(&self) -> Interface {
        let end =
            ServiceEnd { name: self.service, ros_type: self.ros_type, service: std::any::TypeId::of::<()>() };
        Interface { clients: vec![end], ..Interface::new() }
    }

    fn on_start(&mut self, _now: Time, out: &mut Outbox) {
        if let Some(request) = self.request.take() {
            out.push(Effect::Call { port: self.service, call: CallId(1), request });
        }
    }

    fn on_message(&mut self, _now: Time, _message: &Received<'_>, _out: &mut Outbox) {}

    fn on_response(&mut self, _now: Time, response: &Response<'_>, out: &mut Outbox) {
        let answer = response.message.map(in_json).map_err(str::to_owned);
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        out.finish(Finish::Success);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spikewing_msgs::spikewing_msgs as sw;

    #[test]
    fn a_request_is_the_default_with_what_was_given_and_mistakes_are_named() {
        let swap = |text: &str| request_of("/s", "spikewing_msgs/srv/SwapPolicy", text);
        let request = swap("{path: a.safetensors}").unwrap();
        assert_eq!(sw::SwapPolicy_Request::peel(&request).unwrap().path, "a.safetensors");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy");
        std::fs::write(&file, [1, 2, 255]).unwrap();
        let request = swap(&format!("{{data: '@{}'}}", file.display())).unwrap();
        assert_eq!(sw::SwapPolicy_Request::peel(&request).unwrap().data, [1, 2, 255]);
        let reset =
            request_of("/r", "spikewing_msgs/srv/ResetVehicle", "pose: {position: {z: 1.5}}").unwrap();
        let pose = &sw::ResetVehicle_Request::peel(&reset).unwrap().pose;
        assert_eq!((pose.position.x, pose.position.z), (0.0, 1.5));
        for (text, words) in [
            ("{policy_file: x}", "no field `policy_file`; it has: data, path"),
            ("{path: 3}", "field `path`"),
            ("{data: [1, 256]}", "field `data`"),
            ("{data: '@/nowhere/at/all'}", "/nowhere/at/all"),
            ("[1]", "no YAML mapping"),
            ("{path", "no YAML mapping"),
        ] {
            let error = swap(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let empty = request_of("/a", "std_srvs/srv/Trigger", "{on: true}").unwrap_err().to_string();
        assert!(empty.contains("no field `on`; it has: none"), "{empty}");
        assert!(
            request_of("/x", "other_msgs/srv/Other", "{}")
                .unwrap_err()
                .to_string()
                .contains("other_msgs/srv/Other")
        );
        assert!(request_of("/a", "std_srvs/srv/Trigger", "").is_ok());
    }

    #[test]
    fn an_answer_reads_well() {
        let answer =
            sw::SwapPolicy_Response { success: true, version: 3, ..sw::SwapPolicy_Response::default() };
        assert_eq!(in_json(&answer.wrap()).to_string(), r#"{"message":"","success":true,"version":3}"#);
    }

    #[test]
    fn a_name_that_is_nearly_right_is_offered() {
        let known = vec!["/supervisor/arm".to_owned(), "/supervisor/land".to_owned()];
        let text = CallError::Absent { service: "/supervisor/amr".into(), known }.to_string();
        assert!(text.contains("did you mean /supervisor/arm?"), "{text}");
    }
}
