//! The vehicle's file, as people write it.

use serde::Deserialize;

use super::{MotorTimeConstant, Rotor, Vehicle};
use crate::simulation::Simulation;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    model_of: Option<String>,
    mass_kg: f64,
    gravity_m_s2: f64,
    inertia_kg_m2: Inertia,
    inertia_inverse: Option<[f64; 3]>,
    #[serde(default)]
    centre_of_mass_m: [f64; 3],
    rotors: Vec<Rotor>,
    thrust_curve: [f64; 3],
    torque_constant_m: f64,
    motor_time_constant_s: Lag,
    rotor_range: [f64; 2],
    #[serde(default)]
    drag_linear: [f64; 3],
    #[serde(default)]
    drag_quadratic: [f64; 3],
    #[serde(default)]
    drag_angular: [f64; 3],
    #[serde(default)]
    rotor_drag_n_s_m: f64,
    #[serde(default)]
    simulation: Simulation,
}

/// The diagonal, or the whole matrix.
#[derive(Deserialize)]
#[serde(untagged, expecting = "inertia_kg_m2: three numbers (the diagonal), or three rows of three numbers")]
enum Inertia {
    Diagonal([f64; 3]),
    Matrix([[f64; 3]; 3]),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EachWay {
    rising: f64,
    falling: f64,
}

/// Both ways alike, or each its own.
#[derive(Deserialize)]
#[serde(untagged, expecting = "motor_time_constant_s: one number, or {rising: …, falling: …}, in seconds")]
enum Lag {
    Alike(f64),
    EachWay(EachWay),
}

impl From<Lag> for MotorTimeConstant {
    fn from(lag: Lag) -> Self {
        match lag {
            Lag::Alike(both) => Self { rising: both, falling: both },
            Lag::EachWay(EachWay { rising, falling }) => Self { rising, falling },
        }
    }
}

/// Reads a vehicle, plausible or not.
pub fn read(text: &str) -> Result<Vehicle, String> {
    // A byte order mark is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file: File = serde_yaml::from_str(text).map_err(|e| explained(&e.to_string()))?;
    let (inertia_kg_m2, inertia_off_diagonal_kg_m2) = match file.inertia_kg_m2 {
        Inertia::Diagonal(diagonal) => (diagonal, [0.0; 3]),
        Inertia::Matrix(m) => {
            if let Some((i, j)) = [(0, 1), (0, 2), (1, 2)].into_iter().find(|&(i, j)| m[i][j] != m[j][i]) {
                return Err(format!(
                    "inertia_kg_m2[{i}][{j}] = {} and [{j}][{i}] = {} must be equal: an inertia is symmetric",
                    m[i][j], m[j][i]
                ));
            }
            ([m[0][0], m[1][1], m[2][2]], [m[0][1], m[0][2], m[1][2]])
        }
    };
    let mut rotors = file.rotors;
    for (i, rotor) in rotors.iter_mut().enumerate() {
        let length = rotor.axis.iter().map(|a| a * a).sum::<f64>().sqrt();
        if !(0.9..=1.1).contains(&length) {
            return Err(format!(
                "rotors[{i}].axis = {:?} must be a unit vector: its length is {length}",
                rotor.axis
            ));
        }
        if rotor.axis != [0.0, 0.0, 1.0] {
            rotor.axis = rotor.axis.map(|a| a / length);
        }
    }
    Ok(Vehicle {
        model_of: file.model_of.unwrap_or_else(|| file.name.clone()),
        name: file.name,
        mass_kg: file.mass_kg,
        gravity_m_s2: file.gravity_m_s2,
        inertia_kg_m2,
        inertia_off_diagonal_kg_m2,
        inertia_inverse: file.inertia_inverse,
        centre_of_mass_m: file.centre_of_mass_m,
        rotors,
        thrust_curve: file.thrust_curve,
        torque_constant_m: file.torque_constant_m,
        motor_time_constant_s: file.motor_time_constant_s.into(),
        rotor_range: file.rotor_range,
        drag_linear: file.drag_linear,
        drag_quadratic: file.drag_quadratic,
        drag_angular: file.drag_angular,
        rotor_drag_n_s_m: file.rotor_drag_n_s_m,
        simulation: file.simulation,
    })
}

/// Where keys that people know from elsewhere belong.
const ELSEWHERE: [(&str, &str); 4] = [
    ("`rotor_drag`", "rotor_drag_n_s_m is the drag of a rotor in its plane, N/(m/s) per unit of its state"),
    ("`inertia`", "inertia_kg_m2 holds the inertia, kg m²"),
    ("`mass`", "mass_kg holds the mass, kg"),
    ("`arm_length_m`", "rotors[…].position_m holds each rotor's place, m"),
];

fn explained(error: &str) -> String {
    let hint = ELSEWHERE.iter().find(|(key, _)| error.contains(&format!("unknown field {key}")));
    hint.map_or_else(|| error.to_owned(), |(_, hint)| format!("{error} ({hint})"))
}
