//! What a vehicle is, apart from its name: a text that is the same for the same airframe.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Vehicle, upright};

impl Vehicle {
    /// The airframe in one line of JSON, keys sorted, defaults written out: what identifies it. Name, noise and starts are no
    /// part of it; two files of the same content describe the same airframe, however they are written.
    pub fn content(&self) -> String {
        // Sorted, whatever the features that serde_json is built with.
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        let mut put = |key: &str, value: Value| all.insert(key.to_owned(), value);
        put("mass_kg", json!(self.mass_kg));
        put("gravity_m_s2", json!(self.gravity_m_s2));
        put("inertia_kg_m2", json!(self.inertia_kg_m2));
        put("inertia_off_diagonal_kg_m2", json!(self.inertia_off_diagonal_kg_m2));
        // A rounded inverse is how a simulator computes, no other airframe.
        let rounded = |inverse: &[f64; 3]| {
            inverse.iter().zip(self.inertia_kg_m2).all(|(inverse, j)| (inverse * j - 1.0).abs() < 1e-6)
        };
        if let Some(inverse) = self.inertia_inverse.filter(|inverse| !rounded(inverse)) {
            put("inertia_inverse", json!(inverse));
        }
        put("centre_of_mass_m", json!(self.centre_of_mass_m));
        let rotors = self.rotors.iter().map(|rotor| {
            let mut one = json!({"position_m": rotor.position_m, "spin": rotor.spin});
            if rotor.axis != upright() {
                one["axis"] = json!(rotor.axis);
            }
            if rotor.thrust_factor != 1.0 {
                one["thrust_factor"] = json!(rotor.thrust_factor);
            }
            one
        });
        put("rotors", Value::Array(rotors.collect()));
        put("thrust_curve", json!(self.thrust_curve));
        put("torque_constant_m", json!(self.torque_constant_m));
        let lag = self.motor_time_constant_s;
        put("motor_time_constant_s", json!([lag.rising, lag.falling]));
        put("rotor_range", json!(self.rotor_range));
        put("drag_linear", json!(self.drag_linear));
        put("drag_quadratic", json!(self.drag_quadratic));
        put("drag_angular", json!(self.drag_angular));
        put("rotor_drag_n_s_m", json!(self.rotor_drag_n_s_m));
        let all: BTreeMap<String, Value> =
            all.into_iter().map(|(key, value)| (key, positive_zeros(value))).collect();
        json!(all).to_string()
    }

    /// Names and contents for which what is made fits this vehicle: its own, and those of the built-in vehicle that it is a
    /// model of.
    pub fn known_as(&self) -> Vec<(String, String)> {
        let mut all = vec![(self.name.clone(), self.content())];
        if self.model_of != self.name {
            all.push((self.model_of.clone(), self.content()));
            all.extend(Self::built_in(&self.model_of).map(|v| (v.name.clone(), v.content())));
        }
        all
    }
}

/// −0 is 0: people write both.
fn positive_zeros(value: Value) -> Value {
    match value {
        Value::Array(all) => all.into_iter().map(positive_zeros).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, positive_zeros(value))).collect(),
        Value::Number(n) if n.as_f64() == Some(0.0) => json!(0.0),
        other => other,
    }
}
