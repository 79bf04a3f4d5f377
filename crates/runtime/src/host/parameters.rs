//! The standard parameter services of a ROS 2 node, on top of its declarations.

use spikewing_msgs::{
    AnyMessage, Message,
    rcl_interfaces::{
        DescribeParameters_Request, DescribeParameters_Response, FloatingPointRange,
        GetParameterTypes_Request, GetParameterTypes_Response, GetParameters_Request, GetParameters_Response,
        IntegerRange, ListParameters_Request, ListParameters_Response, ListParametersResult, Parameter,
        ParameterDescriptor, ParameterEvent, ParameterType, ParameterValue, SetParameters_Request,
        SetParameters_Response, SetParametersAtomically_Request, SetParametersAtomically_Response,
        SetParametersResult,
    },
};

use crate::{
    parameter::{Constraint, Declaration, Mutability, Parameters, Value},
    time::Time,
};

/// Service name under the node, and ROS type.
pub const SERVICES: [(&str, &str); 6] = [
    ("~/list_parameters", "rcl_interfaces/srv/ListParameters"),
    ("~/get_parameters", "rcl_interfaces/srv/GetParameters"),
    ("~/get_parameter_types", "rcl_interfaces/srv/GetParameterTypes"),
    ("~/set_parameters", "rcl_interfaces/srv/SetParameters"),
    ("~/set_parameters_atomically", "rcl_interfaces/srv/SetParametersAtomically"),
    ("~/describe_parameters", "rcl_interfaces/srv/DescribeParameters"),
];

/// The parameter that every node has; ours may not change while it runs.
const USE_SIM_TIME: &str = "use_sim_time";

/// Asks the node whether it takes a whole new set of values.
pub type Ask<'a> = dyn FnMut(&Parameters) -> Result<(), String> + 'a;

/// A node's parameters as the services see them.
#[derive(Debug)]
pub struct ParameterServer {
    node: String,
    parameters: Parameters,
    use_sim_time: bool,
}

impl ParameterServer {
    /// For the node of that full name.
    pub fn new(node: String, parameters: Parameters, use_sim_time: bool) -> Self {
        Self { node, parameters, use_sim_time }
    }

    /// What `/parameter_events` gets at the start: everything is new.
    pub fn announcement(&self, now: Time) -> ParameterEvent {
        let new_parameters = self.names().filter_map(|name| self.parameter(name)).collect();
        ParameterEvent {
            stamp: now.to_msg(),
            node: self.node.clone(),
            new_parameters,
            ..ParameterEvent::default()
        }
    }

    /// Answers a request; also what to tell on `/parameter_events`. `None` when it is no parameter request.
    pub fn answer(
        &mut self,
        now: Time,
        request: &AnyMessage,
        ask: &mut Ask<'_>,
    ) -> Option<(AnyMessage, Option<ParameterEvent>)> {
        if let Some(request) = ListParameters_Request::peel(request) {
            return Some((self.list(request).wrap(), None));
        }
        if let Some(request) = GetParameters_Request::peel(request) {
            let values = request.names.iter().map(|n| self.value(n).unwrap_or_default()).collect();
            return Some((GetParameters_Response { values }.wrap(), None));
        }
        if let Some(request) = GetParameterTypes_Request::peel(request) {
            let types = request.names.iter().map(|n| self.value(n).unwrap_or_default().kind).collect();
            return Some((GetParameterTypes_Response { types }.wrap(), None));
        }
        if let Some(request) = DescribeParameters_Request::peel(request) {
            let descriptors = request.names.iter().map(|n| self.describe(n)).collect();
            return Some((DescribeParameters_Response { descriptors }.wrap(), None));
        }
        let mut changed = Vec::new();
        let response = if let Some(request) = SetParameters_Request::peel(request) {
            let one = |p: &Parameter| result(self.set(std::slice::from_ref(p), ask, &mut changed));
            SetParameters_Response { results: request.parameters.iter().map(one).collect() }.wrap()
        } else {
            let request = SetParametersAtomically_Request::peel(request)?;
            let result = result(self.set(&request.parameters, ask, &mut changed));
            SetParametersAtomically_Response { result }.wrap()
        };
        let event = (!changed.is_empty()).then(|| ParameterEvent {
            stamp: now.to_msg(),
            node: self.node.clone(),
            changed_parameters: changed.iter().filter_map(|name| self.parameter(name)).collect(),
            ..ParameterEvent::default()
        });
        Some((response, event))
    }

    /// Sets all or none.
    fn set(
        &mut self,
        wanted: &[Parameter],
        ask: &mut Ask<'_>,
        changed: &mut Vec<String>,
    ) -> Result<(), String> {
        let mut new = self.parameters.clone();
        for Parameter { name, value } in wanted {
            if name == USE_SIM_TIME {
                return Err(format!(
                    "{USE_SIM_TIME} is fixed at start; restart the node with -p {USE_SIM_TIME}:=..."
                ));
            }
            let declaration = new.declaration(name).map_err(|e| e.to_string())?;
            if declaration.mutability == Mutability::Fixed {
                return Err(format!(
                    "parameter `{name}` is fixed at start; restart the node with -p {name}:=..."
                ));
            }
            let value = from_ros(value, &declaration.default)
                .map_err(|reason| format!("parameter `{name}`: {reason}"))?;
            new.set(name, value).map_err(|e| e.to_string())?;
        }
        ask(&new)?;
        self.parameters = new;
        for Parameter { name, .. } in wanted {
            if !changed.contains(name) {
                changed.push(name.clone());
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let declared = self.parameters.values().keys().map(String::as_str);
        declared.chain((!self.parameters.values().contains_key(USE_SIM_TIME)).then_some(USE_SIM_TIME))
    }

    fn value(&self, name: &str) -> Option<ParameterValue> {
        match self.parameters.values().get(name) {
            Some(value) => Some(to_ros(value)),
            None if name == USE_SIM_TIME => Some(to_ros(&Value::Bool(self.use_sim_time))),
            None => None,
        }
    }

    fn parameter(&self, name: &str) -> Option<Parameter> {
        Some(Parameter { name: name.to_owned(), value: self.value(name)? })
    }

    fn list(&self, request: &ListParameters_Request) -> ListParameters_Response {
        let depth = request.depth;
        let within = |rest: &str| {
            depth == ListParameters_Request::DEPTH_RECURSIVE || (rest.matches('.').count() as u64) < depth
        };
        let chosen = |name: &str| {
            if request.prefixes.is_empty() {
                return within(name);
            }
            request.prefixes.iter().any(|prefix| {
                name == prefix
                    || name
                        .strip_prefix(prefix.as_str())
                        .and_then(|r| r.strip_prefix('.'))
                        .is_some_and(within)
            })
        };
        let names: Vec<String> = self.names().filter(|n| chosen(n)).map(str::to_owned).collect();
        let mut prefixes: Vec<String> =
            names.iter().filter_map(|n| n.rsplit_once('.')).map(|(prefix, _)| prefix.to_owned()).collect();
        prefixes.sort();
        prefixes.dedup();
        ListParameters_Response { result: ListParametersResult { names, prefixes } }
    }

    fn describe(&self, name: &str) -> ParameterDescriptor {
        let kind = self.value(name).unwrap_or_default().kind;
        match self.parameters.declaration(name) {
            Ok(declaration) => descriptor(declaration, kind),
            Err(_) if name == USE_SIM_TIME => ParameterDescriptor {
                name: name.to_owned(),
                kind,
                description: "Whether the node's clock is /clock.".to_owned(),
                read_only: true,
                ..ParameterDescriptor::default()
            },
            Err(_) => ParameterDescriptor { name: name.to_owned(), ..ParameterDescriptor::default() },
        }
    }
}

fn descriptor(declaration: &Declaration, kind: u8) -> ParameterDescriptor {
    let unit = if declaration.unit.is_empty() { String::new() } else { format!(" [{}]", declaration.unit) };
    let mut descriptor = ParameterDescriptor {
        name: declaration.name.to_owned(),
        kind,
        description: format!("{}{unit}", declaration.description),
        read_only: declaration.mutability == Mutability::Fixed,
        ..ParameterDescriptor::default()
    };
    match (&declaration.constraint, &declaration.default) {
        (Constraint::Range(low, high), Value::Integer(_)) => {
            // Saturates where a bound is beyond what a whole number holds.
            let range =
                IntegerRange { from_value: low.ceil() as i64, to_value: high.floor() as i64, step: 0 };
            descriptor.integer_range.push(range);
        }
        (Constraint::Range(low, high), _) => {
            let range = FloatingPointRange { from_value: *low, to_value: *high, step: 0.0 };
            descriptor.floating_point_range.push(range);
        }
        (Constraint::Choice(of), _) => {
            descriptor.additional_constraints = format!("one of {}", of.join(", "))
        }
        (Constraint::Any, _) => {}
    }
    descriptor
}

fn result(outcome: Result<(), String>) -> SetParametersResult {
    match outcome {
        Ok(()) => SetParametersResult { successful: true, reason: String::new() },
        Err(reason) => SetParametersResult { successful: false, reason },
    }
}

fn to_ros(value: &Value) -> ParameterValue {
    let (mut ros, kind) = (
        ParameterValue::default(),
        match value {
            Value::Bool(_) => ParameterType::PARAMETER_BOOL,
            Value::Integer(_) => ParameterType::PARAMETER_INTEGER,
            Value::Float(_) => ParameterType::PARAMETER_DOUBLE,
            Value::Text(_) => ParameterType::PARAMETER_STRING,
            Value::Bools(_) => ParameterType::PARAMETER_BOOL_ARRAY,
            Value::Integers(_) => ParameterType::PARAMETER_INTEGER_ARRAY,
            Value::Floats(_) => ParameterType::PARAMETER_DOUBLE_ARRAY,
            Value::Texts(_) => ParameterType::PARAMETER_STRING_ARRAY,
        },
    );
    ros.kind = kind;
    match value {
        Value::Bool(v) => ros.bool_value = *v,
        Value::Integer(v) => ros.integer_value = *v,
        Value::Float(v) => ros.double_value = *v,
        Value::Text(v) => ros.string_value.clone_from(v),
        Value::Bools(v) => ros.bool_array_value.clone_from(v),
        Value::Integers(v) => ros.integer_array_value.clone_from(v),
        Value::Floats(v) => ros.double_array_value.clone_from(v),
        Value::Texts(v) => ros.string_array_value.clone_from(v),
    }
    ros
}

/// The value in our types. An empty list carries the type that its sender guessed, so it is taken as the declared one.
fn from_ros(value: &ParameterValue, declared: &Value) -> Result<Value, String> {
    Ok(match value.kind {
        ParameterType::PARAMETER_BOOL => Value::Bool(value.bool_value),
        ParameterType::PARAMETER_INTEGER => Value::Integer(value.integer_value),
        ParameterType::PARAMETER_DOUBLE => Value::Float(value.double_value),
        ParameterType::PARAMETER_STRING => Value::Text(value.string_value.clone()),
        ParameterType::PARAMETER_DOUBLE_ARRAY => Value::Floats(value.double_array_value.clone()),
        ParameterType::PARAMETER_INTEGER_ARRAY => Value::Integers(value.integer_array_value.clone()),
        ParameterType::PARAMETER_STRING_ARRAY => Value::Texts(value.string_array_value.clone()),
        ParameterType::PARAMETER_BYTE_ARRAY | ParameterType::PARAMETER_BOOL_ARRAY
            if value.byte_array_value.is_empty() && value.bool_array_value.is_empty() =>
        {
            match declared {
                Value::Texts(_) => Value::Texts(Vec::new()),
                _ => Value::Floats(Vec::new()),
            }
        }
        ParameterType::PARAMETER_NOT_SET => return Err("declared parameters cannot be deleted".to_owned()),
        other => {
            return Err(format!(
                "{} is declared, but the value has the ROS type {other} (rcl_interfaces/msg/ParameterType)",
                declared.type_name()
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ParameterServer {
        let declarations = vec![
            Declaration::float("envelope.radius_m", 0.6)
                .range(0.1, 5.0)
                .unit("m")
                .describe("How far.")
                .dynamic(),
            Declaration::integer("steps", 500).range(1.0, 1000.0),
            Declaration::floats("setpoint", &[0.0, 0.0, 1.0]).dynamic(),
            Declaration::choice("mode", "a", &["a", "b"]).dynamic(),
        ];
        ParameterServer::new("/n".to_owned(), Parameters::defaults(declarations), true)
    }

    fn set(
        server: &mut ParameterServer,
        name: &str,
        value: Value,
    ) -> (SetParametersResult, Option<ParameterEvent>) {
        let parameters = vec![Parameter { name: name.to_owned(), value: to_ros(&value) }];
        let request = SetParameters_Request { parameters }.wrap();
        let mut ask =
            |p: &Parameters| if p.text("mode") == Ok("b") { Err("not b".to_owned()) } else { Ok(()) };
        let (response, event) = server.answer(Time::ZERO, &request, &mut ask).unwrap();
        (SetParameters_Response::peel(&response).unwrap().results[0].clone(), event)
    }

    #[test]
    fn a_dynamic_parameter_changes_and_everything_else_is_refused_with_a_reason() {
        let mut server = server();
        let (done, event) = set(&mut server, "envelope.radius_m", Value::Float(0.8));
        assert!(done.successful, "{}", done.reason);
        assert_eq!(event.unwrap().changed_parameters[0].value.double_value, 0.8);
        assert!(set(&mut server, "setpoint", Value::Floats(vec![1.0, 0.0, 1.0])).0.successful);
        for (name, value, word) in [
            ("envelope.radius_m", Value::Float(9.0), "5"),
            ("envelope.radius_m", Value::Float(f64::NAN), "finite"),
            ("envelope.radius_m", Value::Text("x".into()), "number"),
            ("envelope.radius", Value::Float(0.5), "envelope.radius_m"),
            ("steps", Value::Integer(5), "fixed at start"),
            ("use_sim_time", Value::Bool(false), "fixed at start"),
            ("setpoint", Value::Floats(vec![1.0]), "3"),
            ("mode", Value::Text("b".into()), "not b"),
        ] {
            let (refused, event) = set(&mut server, name, value);
            assert!(!refused.successful && refused.reason.contains(word), "{name}: {}", refused.reason);
            assert!(event.is_none());
        }
        assert_eq!(server.parameters.float("envelope.radius_m"), Ok(0.8));
    }

    #[test]
    fn an_atomic_set_is_all_or_nothing() {
        let mut server = server();
        let parameters = vec![
            Parameter { name: "envelope.radius_m".into(), value: to_ros(&Value::Float(1.0)) },
            Parameter { name: "nothing".into(), value: to_ros(&Value::Float(1.0)) },
        ];
        let request = SetParametersAtomically_Request { parameters }.wrap();
        let (response, event) = server.answer(Time::ZERO, &request, &mut |_| Ok(())).unwrap();
        assert!(!SetParametersAtomically_Response::peel(&response).unwrap().result.successful);
        assert!(event.is_none());
        assert_eq!(server.parameters.float("envelope.radius_m"), Ok(0.6));
    }

    #[test]
    fn listing_and_describing_follow_ros() {
        let mut server = server();
        let mut list = |prefixes: &[&str], depth| {
            let prefixes = prefixes.iter().map(|&p| p.to_owned()).collect();
            let request = ListParameters_Request { prefixes, depth }.wrap();
            let (response, _) = server.answer(Time::ZERO, &request, &mut |_| Ok(())).unwrap();
            ListParameters_Response::peel(&response).unwrap().result.clone()
        };
        assert_eq!(list(&[], 0).names.len(), 5);
        assert_eq!(list(&[], 0).prefixes, ["envelope"]);
        assert_eq!(list(&[], 1).names.len(), 4);
        assert_eq!(list(&["envelope"], 0).names, ["envelope.radius_m"]);
        let names = vec!["envelope.radius_m".to_owned(), "steps".to_owned(), "unknown".to_owned()];
        let request = DescribeParameters_Request { names }.wrap();
        let (response, _) = server.answer(Time::ZERO, &request, &mut |_| Ok(())).unwrap();
        let d = DescribeParameters_Response::peel(&response).unwrap().descriptors.clone();
        assert_eq!((d[0].description.as_str(), d[0].floating_point_range[0].to_value), ("How far. [m]", 5.0));
        assert!(!d[0].read_only && d[1].read_only);
        assert_eq!(d[1].integer_range[0].to_value, 1000);
        assert_eq!(d[2].kind, ParameterType::PARAMETER_NOT_SET);
    }
}
