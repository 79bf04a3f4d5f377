//! `spikewing vehicle check`: what a vehicle file means for flight.

use serde_json::{Map, Value, json};
use spikewing_guide_policy::geometric::Geometric;
use spikewing_quad::{
    Vehicle,
    protocol::{Evaluation, Protocol, Summary},
    vehicle::{Mixer, ROTORS},
};
use spikewing_rl::guide::start_of;
use spikewing_snn::policy::{content_sha256, differences};

use crate::Failure;

/// Control period of everything here, s.
const PERIOD_S: f64 = 0.01;
/// Flights of the guide, each way.
const EPISODES: usize = 20;

/// Explains a vehicle.
pub fn run(name: &str, as_json: bool) -> Result<(), Failure> {
    let vehicle = Vehicle::find(name)?;
    let facts = facts(&vehicle)?;
    if as_json {
        println!("{}", Value::Object(facts));
        return Ok(());
    }
    for (field, value) in &facts {
        let shown = match value {
            Value::Array(all) if field == "remarks" => {
                for remark in all.iter().filter_map(Value::as_str) {
                    println!("! {remark}");
                }
                continue;
            }
            Value::Number(n) => {
                n.as_f64().map_or_else(|| n.to_string(), |v| format!("{}", (v * 1e4).round() / 1e4))
            }
            Value::String(text) => text.clone(),
            Value::Array(all) => {
                let number = |v: &Value| {
                    v.as_f64().map_or_else(|| v.to_string(), |v| format!("{}", (v * 1e2).round() / 1e2))
                };
                all.iter().map(number).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        println!("{field:32} {shown}");
    }
    Ok(())
}

fn facts(v: &Vehicle) -> Result<Map<String, Value>, Failure> {
    let weight = v.mass_kg * v.gravity_m_s2;
    let ratio = v.thrust_to_weight();
    let lag = v.motor_time_constant_s;
    let mut facts = Map::new();
    let mut put = |field: &str, value: Value| facts.insert(field.to_owned(), value);
    put("name", json!(v.name));
    put("content_sha256", json!(content_sha256(&v.content())));
    put("weight_n", json!(weight));
    put("hover_throttle", json!((v.hover_action() + 1.0) / 2.0));
    put("hover_command", json!(v.hover_action()));
    put("hover_rotor_state", json!(v.hover_rotor()));
    put("thrust_to_weight", json!(ratio));
    put("largest_climb_m_s2", json!((ratio - 1.0) * v.gravity_m_s2));
    put("largest_level_tilt_deg", json!((1.0 / ratio).acos().to_degrees()));
    put("largest_turn_rad_s2", json!(authority(v)));
    put("motor_lag_ms", json!([lag.rising * 1e3, lag.falling * 1e3]));
    put("parts_of_a_10_ms_step", json!(v.parts_of_step(PERIOD_S)));
    put("rotors", json!(v.rotors.len()));
    let (paper, recovery) = (guided(v, Protocol::Paper)?, guided(v, Protocol::Recovery)?);
    put("guide_hover_completed", json!(paper.completed_share));
    put("guide_hover_return", json!(paper.return_mean));
    put("guide_hover_error_m", json!(paper.xy_error_m));
    put("guide_recovery_completed", json!(recovery.completed_share));
    put("remarks", json!(remarks(v, &paper)));
    Ok(facts)
}

/// Largest angular acceleration about x, y and z from hover, with the motors' thrusts moved by as much as the nearer end of
/// their range allows.
fn authority(v: &Vehicle) -> [f64; 3] {
    let hover = v.thrust_n(v.hover_rotor());
    let [low, high] = v.thrust_range_n();
    let room = (high - hover).min(hover - low);
    let inverse = v.inertia_matrix().try_inverse().unwrap_or_default();
    std::array::from_fn(|axis| {
        let torque: f64 = v.motors().iter().map(|motor| motor.torque_m[axis].abs() * room).sum();
        torque * inverse[(axis, axis)]
    })
}

fn guided(v: &Vehicle, protocol: Protocol) -> Result<Summary, Failure> {
    let mut vehicle = v.clone();
    vehicle.simulation.start = start_of(v);
    let evaluation = Evaluation { vehicle, protocol, ..Evaluation::paper(EPISODES, 1)? };
    Ok(Summary::of(&evaluation.run(&mut Geometric::for_vehicle(v))))
}

fn remarks(v: &Vehicle, hover: &Summary) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(built_in) = Vehicle::built_in(&v.name) {
        let found = differences(&built_in.content(), &v.content());
        if !found.is_empty() {
            all.push(format!(
                "it has the name of a built-in vehicle and is another (there: built in, here: this file): {}. Policies tell them \
                 apart by content; give it a name of its own",
                found.join("; ")
            ));
        }
    }
    if v.rotors.len() > ROTORS {
        let mixer = Mixer::of(v);
        let rows: Vec<String> = mixer
            .thrust()
            .iter()
            .map(|row| format!("[{}]", row.map(|s| format!("{s:.3}")).join(", ")))
            .collect();
        all.push(format!(
            "a policy commands four motors; the thrusts of the {} rotors are these shares of theirs: {}",
            mixer.rotors(),
            rows.join(" ")
        ));
    }
    if v.thrust_to_weight() < 1.5 {
        all.push("thrust to weight is below 1.5: little is left to climb and to turn with".to_owned());
    }
    let [least, _] = v.thrust_range_n();
    if least < 0.0 {
        all.push(format!("a slow rotor pulls down, {least:.3} N: thrust_curve is a fit, and is used outside of what it was fitted to"));
    }
    let lag = v.motor_time_constant_s;
    if lag.rising.max(lag.falling) > 0.3 {
        all.push("the motors are slow (above 0.3 s): a guide without memory overshoots".to_owned());
    }
    if v.parts_of_step(PERIOD_S) > 1 {
        all.push(format!(
            "the motors are faster than a step of 10 ms: it is made in {} parts",
            v.parts_of_step(PERIOD_S)
        ));
    }
    if hover.completed_share < 1.0 {
        all.push(format!(
            "the geometric guide holds the setpoint in {:.0} % of {EPISODES} flights only: train one with `spikewing train guide`",
            100.0 * hover.completed_share
        ));
    }
    if v.simulation == spikewing_quad::simulation::Simulation::default() {
        all.push(
            "no `simulation`: no observation noise and no disturbance in evaluations; trainings take those of a good estimator"
                .to_owned(),
        );
    }
    all
}
