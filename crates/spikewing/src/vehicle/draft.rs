//! A vehicle on its way from another program's file to ours.

use std::fmt::Write;

use super::rounded;

/// What the user says, for what the file does not.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub name: Option<String>,
    pub mass_kg: Option<f64>,
    pub inertia_kg_m2: Option<[f64; 3]>,
    pub max_thrust_n: Option<f64>,
    pub motor_lag_s: Option<f64>,
    pub rotor_range: Option<[f64; 2]>,
}

/// A rotor, place and axis in FLU.
#[derive(Clone, Copy, Debug)]
pub struct DraftRotor {
    pub position_m: [f64; 3],
    pub spin: f64,
    pub axis: [f64; 3],
}

/// What becomes a vehicle file.
#[derive(Clone, Debug)]
pub struct Draft {
    pub name: String,
    /// Where it is from, for the file's head.
    pub source: String,
    pub mass_kg: f64,
    pub gravity_m_s2: f64,
    /// About the centre of mass, body axes.
    pub inertia_kg_m2: [[f64; 3]; 3],
    pub centre_of_mass_m: [f64; 3],
    pub rotors: Vec<DraftRotor>,
    pub thrust_curve: [f64; 3],
    pub torque_constant_m: f64,
    pub lag_s: [f64; 2],
    pub rotor_range: [f64; 2],
    pub drag_linear: [f64; 3],
    pub drag_angular: [f64; 3],
    pub rotor_drag_n_s_m: f64,
    /// What was assumed or left out; for the user, and for the file's head.
    pub notes: Vec<String>,
}

impl Draft {
    /// Four rotors in the order of a policy's motors: clockwise seen from above, from front right (or front).
    pub fn in_order(&mut self) {
        if self.rotors.len() != 4 {
            return;
        }
        let [cx, cy, _] = self.centre_of_mass_m;
        let turn = std::f64::consts::TAU;
        let clockwise = |r: &DraftRotor| {
            let azimuth = (r.position_m[1] - cy).atan2(r.position_m[0] - cx);
            // A little left of straight ahead is still ahead.
            (22.5_f64.to_radians() - azimuth).rem_euclid(turn)
        };
        self.rotors.sort_by(|a, b| clockwise(a).total_cmp(&clockwise(b)));
    }

    /// The vehicle file.
    pub fn yaml(&self) -> String {
        let mut text = format!("# {}\n#\n", self.source);
        let mut line = |l: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = text.write_fmt(l);
            text.push('\n');
        };
        for note in &self.notes {
            line(format_args!("# {note}"));
        }
        line(format_args!(
            "# SI units; x forward, y left, z up. params/vehicles/README.md of Spikewing explains every field."
        ));
        line(format_args!("name: {}", serde_yaml::to_string(&self.name).unwrap_or_default().trim()));
        line(format_args!("mass_kg: {}", floats_one(rounded(self.mass_kg))));
        line(format_args!("gravity_m_s2: {:?}", self.gravity_m_s2));
        let j = self.inertia_kg_m2.map(|row| row.map(rounded));
        let off_diagonal = [j[0][1], j[0][2], j[1][2]];
        // What a sum of many parts leaves of zero.
        let smallest = j[0][0].min(j[1][1]).min(j[2][2]) * 1e-9;
        if off_diagonal.iter().all(|e| e.abs() <= smallest) {
            line(format_args!("inertia_kg_m2: {}", floats(&[j[0][0], j[1][1], j[2][2]])));
        } else {
            line(format_args!("inertia_kg_m2:"));
            for (i, row) in j.iter().enumerate() {
                // Symmetric to the last digit.
                let row: Vec<f64> = (0..3).map(|k| if k < i { j[k][i] } else { row[k] }).collect();
                line(format_args!("  - {}", floats(&row)));
            }
        }
        if self.centre_of_mass_m.iter().any(|c| c.abs() > 1e-9) {
            line(format_args!("centre_of_mass_m: {}", floats(&self.centre_of_mass_m.map(rounded))));
        }
        line(format_args!("rotors:"));
        for rotor in &self.rotors {
            let upright = rotor.axis[0].abs() < 1e-9 && rotor.axis[1].abs() < 1e-9;
            let axis =
                if upright { String::new() } else { format!(", axis: {}", floats(&rotor.axis.map(rounded))) };
            line(format_args!(
                "  - {{ position_m: {}, spin: {:?}{axis} }}",
                floats(&rotor.position_m.map(rounded)),
                rotor.spin
            ));
        }
        line(format_args!("thrust_curve: {}", floats(&self.thrust_curve.map(rounded))));
        line(format_args!("torque_constant_m: {}", floats_one(rounded(self.torque_constant_m))));
        let [rising, falling] = self.lag_s;
        line(format_args!("motor_time_constant_s: {{ rising: {rising:?}, falling: {falling:?} }}"));
        line(format_args!("rotor_range: {}", floats(&self.rotor_range)));
        for (field, drag) in [("drag_linear", self.drag_linear), ("drag_angular", self.drag_angular)] {
            if drag != [0.0; 3] {
                line(format_args!("{field}: {}", floats(&drag)));
            }
        }
        if self.rotor_drag_n_s_m != 0.0 {
            line(format_args!("rotor_drag_n_s_m: {}", floats_one(self.rotor_drag_n_s_m)));
        }
        text
    }
}

/// YAML 1.1 takes `1e-5` for a text: a number needs its point.
fn floats_one(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0e{exponent}"),
        _ => text,
    }
}

fn floats(values: &[f64]) -> String {
    format!("[{}]", values.iter().map(|v| floats_one(*v)).collect::<Vec<_>>().join(", "))
}
