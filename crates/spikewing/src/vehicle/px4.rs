//! A vehicle from PX4's parameters: its control allocator's geometry (CA_ROTOR*), or the quadrotor and hexarotor of its own
//! simulation (SIH_*).
//!
//! PX4's axes are FRD, ours FLU: y and z change their signs. `CA_ROTORn_KM` is torque per thrust and positive for a rotor that
//! turns counter-clockwise; the body is turned the other way.

use std::collections::BTreeMap;

use super::draft::{Draft, DraftRotor, Known};

/// How much longer the lag of SIH's motors acts at 100 commands a second than SIH_T_TAU says: SIH filters by its own 4 ms
/// whenever a command arrives.
const SIH_LAG: f64 = 2.5;
const GRAVITY: f64 = 9.80665;

/// Parameters by name.
struct Parameters(BTreeMap<String, f64>);

impl Parameters {
    /// QGroundControl's tab-separated file, `param set NAME VALUE`, or NAME and VALUE with a space, comma, tab or `=`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let words: Vec<&str> = line
                .split(|c: char| c.is_whitespace() || c == ',' || c == '=')
                .filter(|w| !w.is_empty())
                .collect();
            let (name, value) = match words[..] {
                ["param", "set" | "set-default", name, value] => (name, value),
                ["param", "set" | "set-default", "-s", name, value] => (name, value),
                // Vehicle, component, name, value, type.
                [system, component, name, value, _]
                    if system.parse::<u32>().is_ok() && component.parse::<u32>().is_ok() =>
                {
                    (name, value)
                }
                [name, value] if is_name(name) => (name, value),
                _ => continue,
            };
            if !is_name(name) {
                continue;
            }
            let Ok(value) = value.parse::<f64>() else {
                if needed(name) {
                    return Err(format!("line {}: {name} = `{value}` is no number", number + 1));
                }
                continue;
            };
            let before = all.insert(name.to_owned(), value);
            if before.is_some_and(|b| b != value) && needed(name) {
                return Err(format!(
                    "line {}: {name} is set twice, to {} and {value}",
                    number + 1,
                    before.unwrap_or_default()
                ));
            }
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    fn or(&self, name: &str, default: f64) -> f64 {
        self.get(name).unwrap_or(default)
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn needed(name: &str) -> bool {
    ["CA_ROTOR", "SIH_", "THR_MDL_FAC", "MPC_THR_HOVER"].iter().any(|prefix| name.starts_with(prefix))
}

/// Reads a vehicle.
pub fn read(text: &str, name: &str, known: &Known) -> Result<Draft, String> {
    let p = Parameters::parse(text)?;
    let simulated =
        p.0.keys().any(|k| k.starts_with("SIH_") && !k.starts_with("SIH_LOC") && !k.starts_with("SIH_DIST"));
    let mut draft = match (simulated, p.get("CA_ROTOR_COUNT").is_some() || p.get("CA_ROTOR0_PX").is_some()) {
        (true, _) => sih(&p, known)?,
        (false, true) => airframe(&p, known)?,
        (false, false) => {
            return Err("no vehicle in it: neither CA_ROTOR_COUNT and CA_ROTORn_PX … (an airframe's rotors) nor SIH_* (PX4's \
                        own simulation) among its parameters"
                .to_owned());
        }
    };
    draft.name = known.name.clone().unwrap_or_else(|| name.to_owned());
    if let Some(range) = known.rotor_range {
        draft.rotor_range = range;
    }
    draft.in_order();
    Ok(draft)
}

/// Thrust over the motor control, PX4's THR_MDL_FAC: f u² + (1 − f) u.
fn curve(p: &Parameters, most: f64) -> Result<[f64; 3], String> {
    let factor = p.or("THR_MDL_FAC", 0.0);
    if !(0.0..=1.0).contains(&factor) {
        return Err(format!("THR_MDL_FAC = {factor} must be from 0 to 1"));
    }
    Ok([0.0, (1.0 - factor) * most, factor * most])
}

fn sih(p: &Parameters, known: &Known) -> Result<Draft, String> {
    let kind = p.or("SIH_VEHICLE_TYPE", 0.0);
    let (roll, pitch) = (p.or("SIH_L_ROLL", 0.2), p.or("SIH_L_PITCH", 0.2));
    let root = 3.0_f64.sqrt() / 2.0;
    // FLU, in PX4's order; see generate_force_and_torques of simulator_sih.
    let places: Vec<([f64; 2], f64)> = match kind {
        0.0 => {
            vec![([pitch, -roll], -1.0), ([-pitch, roll], -1.0), ([pitch, roll], 1.0), ([-pitch, -roll], 1.0)]
        }
        4.0 => vec![
            ([root * pitch, -0.5 * roll], -1.0),
            ([0.0, -roll], 1.0),
            ([-root * pitch, -0.5 * roll], -1.0),
            ([-root * pitch, 0.5 * roll], 1.0),
            ([0.0, roll], -1.0),
            ([root * pitch, 0.5 * roll], 1.0),
        ],
        other => {
            return Err(format!(
                "SIH_VEHICLE_TYPE = {other}: only 0 (quadrotor) and 4 (hexarotor) are multicopters without wings"
            ));
        }
    };
    let (most, torque) = (p.or("SIH_T_MAX", 5.0), p.or("SIH_Q_MAX", 0.1));
    let lag = known.motor_lag_s.unwrap_or(SIH_LAG * p.or("SIH_T_TAU", 0.05));
    let [xy, xz, yz] = [p.or("SIH_IXY", 0.0), p.or("SIH_IXZ", 0.0), p.or("SIH_IYZ", 0.0)];
    let [x, y, z] = [p.or("SIH_IXX", 0.025), p.or("SIH_IYY", 0.025), p.or("SIH_IZZ", 0.030)];
    let missing: Vec<&str> = [
        "SIH_MASS",
        "SIH_IXX",
        "SIH_IYY",
        "SIH_IZZ",
        "SIH_T_MAX",
        "SIH_Q_MAX",
        "SIH_L_ROLL",
        "SIH_L_PITCH",
        "SIH_KDV",
        "SIH_KDW",
        "SIH_T_TAU",
    ]
    .into_iter()
    .filter(|name| p.get(name).is_none())
    .collect();
    let mut notes = vec![format!(
        "The motors' lag is {SIH_LAG} times SIH_T_TAU: SIH filters a motor when a command arrives, 100 times a second."
    )];
    if !missing.is_empty() {
        notes.push(format!("PX4's defaults for {}: the file does not set them.", missing.join(", ")));
    }
    if p.0.keys().any(|k| k.starts_with("CA_ROTOR")) {
        notes.push(
            "Places and spins are SIH's (SIH_L_ROLL, SIH_L_PITCH): it does not read CA_ROTOR*.".to_owned(),
        );
    }
    if p.or("THR_MDL_FAC", 0.0) != 0.0 {
        notes.push("THR_MDL_FAC is left out: SIH's thrust is T_MAX times the motor control.".to_owned());
    }
    Ok(Draft {
        name: String::new(),
        source: "From PX4 parameters, the vehicle that PX4 itself simulates (SIH).".to_owned(),
        mass_kg: known.mass_kg.unwrap_or(p.or("SIH_MASS", 1.0)),
        gravity_m_s2: GRAVITY,
        // FRD to FLU: x and y, x and z change sign together, y and z twice.
        inertia_kg_m2: [[x, -xy, -xz], [-xy, y, yz], [-xz, yz, z]],
        centre_of_mass_m: [0.0; 3],
        rotors: places
            .into_iter()
            .map(|([x, y], spin)| DraftRotor { position_m: [x, y, 0.0], spin, axis: [0.0, 0.0, 1.0] })
            .collect(),
        thrust_curve: [0.0, most, 0.0],
        torque_constant_m: torque / most,
        lag_s: [lag; 2],
        rotor_range: [0.0, 1.0],
        drag_linear: [p.or("SIH_KDV", 1.0); 3],
        drag_angular: [p.or("SIH_KDW", 0.025); 3],
        rotor_drag_n_s_m: 0.0,
        notes,
    })
}

fn airframe(p: &Parameters, known: &Known) -> Result<Draft, String> {
    let count = match p.get("CA_ROTOR_COUNT") {
        Some(n) if (4.0..=8.0).contains(&n) && n.fract() == 0.0 => n as usize,
        Some(n) => return Err(format!("CA_ROTOR_COUNT = {n}: from 4 to 8 rotors can be flown")),
        None => return Err("CA_ROTOR_COUNT is missing: how many rotors are there?".to_owned()),
    };
    let mut rotors = Vec::new();
    let mut moments = Vec::new();
    for i in 0..count {
        let of = |suffix: &str, default: f64| p.or(&format!("CA_ROTOR{i}_{suffix}"), default);
        if p.get(&format!("CA_ROTOR{i}_PX")).is_none() && p.get(&format!("CA_ROTOR{i}_PY")).is_none() {
            return Err(format!(
                "CA_ROTOR{i}_PX and CA_ROTOR{i}_PY are missing: where is rotor {i} of {count}?"
            ));
        }
        let axis = [of("AX", 0.0), -of("AY", 0.0), -of("AZ", -1.0)];
        let length = axis.iter().map(|a| a * a).sum::<f64>().sqrt();
        if length < 1e-6 {
            return Err(format!("CA_ROTOR{i}_AX, AY and AZ are 0: it pushes nowhere"));
        }
        let moment = of("KM", 0.05);
        if moment == 0.0 {
            return Err(format!("CA_ROTOR{i}_KM = 0: the rotor's sense of rotation is not known"));
        }
        moments.push(moment);
        rotors.push(DraftRotor {
            position_m: [of("PX", 0.0), -of("PY", 0.0), -of("PZ", 0.0)],
            spin: -moment.signum(),
            axis: axis.map(|a| a / length),
        });
    }
    let mass = known
        .mass_kg
        .ok_or("PX4's parameters say nothing of the mass: give --mass-kg (weigh it, with its battery)")?;
    let inertia = known.inertia_kg_m2.ok_or(
        "PX4's parameters say nothing of the inertia: give --inertia-kg-m2 X,Y,Z (of CAD, or of `spikewing vehicle identify`)",
    )?;
    let shape = curve(p, 1.0)?;
    let (most, how) = match (known.max_thrust_n, p.get("MPC_THR_HOVER")) {
        (Some(most), _) => (most, "given".to_owned()),
        (None, Some(hover)) if hover > 0.0 && hover < 1.0 => {
            // PX4's hover throttle is thrust: its mixer undoes the curve.
            (mass * GRAVITY / (count as f64 * hover), format!("the weight over MPC_THR_HOVER = {hover}"))
        }
        _ => {
            return Err(
                "the largest thrust is not known: give --max-thrust-n of one rotor, or set MPC_THR_HOVER"
                    .to_owned(),
            );
        }
    };
    let torque = moments.iter().map(|m| m.abs()).sum::<f64>() / count as f64;
    let mut notes = vec![format!(
        "Largest thrust of a rotor, {most:.4} N: {how}. The rotor state is PX4's motor control, 0 to 1."
    )];
    if moments.iter().any(|m| (m.abs() - torque).abs() > 1e-3 * torque) {
        notes.push(format!("torque_constant_m is the mean of the CA_ROTORn_KM {moments:?}."));
    }
    let lag = known.motor_lag_s.unwrap_or_else(|| {
        notes.push("ASSUMED: motors that settle with 0.05 s; give --motor-lag-s, or fit it with `spikewing vehicle identify`.".to_owned());
        0.05
    });
    let arm = rotors.iter().map(|r| r.position_m[0].hypot(r.position_m[1])).fold(0.0, f64::max);
    if arm > 0.9 && (p.or("CA_ROTOR0_PX", 0.0).abs() == 1.0 || arm == 1.0) {
        notes.push(format!(
            "The longest arm is {arm} m: are CA_ROTORn_PX and PY really in metres, or only in proportion?"
        ));
    }
    Ok(Draft {
        name: String::new(),
        source: "From PX4 parameters (CA_ROTOR*).".to_owned(),
        mass_kg: mass,
        gravity_m_s2: GRAVITY,
        inertia_kg_m2: [[inertia[0], 0.0, 0.0], [0.0, inertia[1], 0.0], [0.0, 0.0, inertia[2]]],
        centre_of_mass_m: [0.0; 3],
        rotors,
        thrust_curve: shape.map(|c| c * most),
        torque_constant_m: torque,
        lag_s: [lag; 2],
        rotor_range: [0.0, 1.0],
        drag_linear: [0.0; 3],
        drag_angular: [0.0; 3],
        rotor_drag_n_s_m: 0.0,
        notes,
    })
}
