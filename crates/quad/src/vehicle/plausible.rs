//! Whether a vehicle can fly, and whether its numbers are in the units, axes and order that they should be in.
//!
//! Each check knows one way in which files of other programs are wrong here, and names it with the physics.

use nalgebra::SymmetricEigen;

use super::{MAX_ROTORS, ROTORS, Vehicle};

/// Shortest motor lag that a step is divided for, s.
const SHORTEST_LAG_S: f64 = 2e-5;

/// What is wrong with a vehicle.
pub fn check(v: &Vehicle) -> Result<(), String> {
    numbers(v)?;
    inertia(v)?;
    rotors(v)?;
    motors(v)?;
    weight(v)?;
    if v.rotors.len() == ROTORS {
        order(v)?;
    }
    balance(v)?;
    size(v)?;
    v.simulation.check(v).map_err(|reason| format!("simulation.{reason}"))
}

fn numbers(v: &Vehicle) -> Result<(), String> {
    let names = [("name", &v.name), ("model_of", &v.model_of)];
    if let Some((field, _)) = names.iter().find(|(_, name)| name.trim().is_empty()) {
        return Err(format!("{field} is empty: policies are known by it"));
    }
    let positive = [
        ("mass_kg", v.mass_kg),
        ("gravity_m_s2", v.gravity_m_s2),
        ("inertia_kg_m2[0]", v.inertia_kg_m2[0]),
        ("inertia_kg_m2[1]", v.inertia_kg_m2[1]),
        ("inertia_kg_m2[2]", v.inertia_kg_m2[2]),
        ("torque_constant_m", v.torque_constant_m),
    ];
    if let Some((field, value)) = positive.iter().find(|(_, value)| !value.is_finite() || *value <= 0.0) {
        return Err(format!("{field} = {value} must be a positive number"));
    }
    let rotor_numbers = v.rotors.iter().flat_map(|r| r.position_m.into_iter().chain(r.axis).chain([r.spin]));
    let others =
        [v.drag_linear, v.drag_quadratic, v.drag_angular, v.centre_of_mass_m, v.inertia_off_diagonal_kg_m2];
    if rotor_numbers.chain(others.into_iter().flatten()).any(|value| !value.is_finite()) {
        return Err("rotors, drag, centre of mass and inertia must be finite numbers".to_owned());
    }
    let drag = [
        ("drag_linear", v.drag_linear),
        ("drag_quadratic", v.drag_quadratic),
        ("drag_angular", v.drag_angular),
    ];
    let drag = drag.into_iter().chain([("rotor_drag_n_s_m", [v.rotor_drag_n_s_m; 3])]);
    for (field, values) in drag {
        if let Some(value) = values.iter().find(|value| **value < 0.0 || !value.is_finite()) {
            return Err(format!(
                "{field} = {value} must be 0 or more: air that drives the vehicle would add energy"
            ));
        }
    }
    Ok(())
}

fn inertia(v: &Vehicle) -> Result<(), String> {
    let moments = SymmetricEigen::new(v.inertia_matrix()).eigenvalues;
    let full = v.inertia_off_diagonal_kg_m2 != [0.0; 3];
    let what = if full { "the principal moments of inertia_kg_m2 are" } else { "inertia_kg_m2 =" };
    let shown: Vec<f64> = if full { moments.iter().copied().collect() } else { v.inertia_kg_m2.to_vec() };
    if moments.min() <= 0.0 {
        return Err(format!("{what} {shown:?}: a body's moments of inertia are positive"));
    }
    if moments.max() > (moments.sum() - moments.max()) * (1.0 + 1e-9) {
        return Err(format!(
            "{what} {shown:?}: no body has one moment of inertia above the sum of the other two (∫ (x² + y²) dm ≤ \
             ∫ (y² + z²) dm + ∫ (x² + z²) dm); one of them is in another unit or has a wrong exponent"
        ));
    }
    if let Some(inverse) = v.inertia_inverse {
        if full {
            return Err(
                "inertia_inverse is the diagonal's: leave it out where inertia_kg_m2 is a matrix".to_owned()
            );
        }
        if let Some(axis) = (0..3).find(|&i| {
            let product = inverse[i] * v.inertia_kg_m2[i];
            !(0.99..=1.01).contains(&product)
        }) {
            return Err(format!(
                "inertia_inverse[{axis}] = {} is not the inverse of inertia_kg_m2[{axis}] = {}: leave it out, it is computed",
                inverse[axis], v.inertia_kg_m2[axis]
            ));
        }
    }
    Ok(())
}

fn rotors(v: &Vehicle) -> Result<(), String> {
    if !(ROTORS..=MAX_ROTORS).contains(&v.rotors.len()) {
        return Err(format!(
            "rotors: {} of them; from {ROTORS} to {MAX_ROTORS} can be flown",
            v.rotors.len()
        ));
    }
    for (i, rotor) in v.rotors.iter().enumerate() {
        if rotor.spin.abs() != 1.0 {
            let mend = if rotor.spin == 0.0 {
                "1 for a rotor that turns clockwise seen from above, -1 counter-clockwise".to_owned()
            } else {
                format!(
                    "only 1 or -1. Is it PX4's CA_ROTOR{i}_KM? Then torque_constant_m is {} and spin is {}: KM counts a \
                     counter-clockwise rotor positive, spin is the sign of the torque on the body about z up",
                    rotor.spin.abs(),
                    -rotor.spin.signum()
                )
            };
            return Err(format!(
                "rotors[{i}].spin = {} must be the sign of the reaction torque: {mend}",
                rotor.spin
            ));
        }
        if !(rotor.thrust_factor.is_finite() && rotor.thrust_factor >= 0.0) {
            return Err(format!("rotors[{i}].thrust_factor = {} must be 0 or more", rotor.thrust_factor));
        }
        let arm = v.arm_m(rotor);
        if arm.xy().norm() < 1e-3 {
            return Err(format!(
                "rotors[{i}].position_m = {:?}: its arm from the centre of mass has length {:.4} m, so it turns the \
                 vehicle about neither x nor y",
                rotor.position_m,
                arm.xy().norm()
            ));
        }
        if rotor.axis[2] < 0.5 {
            return Err(format!(
                "rotors[{i}].axis = {:?} pushes sideways or down: its z must be 0.5 or more (z is up, PX4's CA_ROTOR{i}_AZ \
                 = -1 is up, too)",
                rotor.axis
            ));
        }
    }
    Ok(())
}

fn motors(v: &Vehicle) -> Result<(), String> {
    let [low, high] = v.rotor_range;
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(format!("rotor_range = [{low}, {high}] must be two numbers, the smaller first"));
    }
    let [c0, c1, c2] = v.thrust_curve;
    // A parabola that opens upwards may turn near idle, one that opens downwards only beyond full throttle.
    let rises = c1 + 2.0 * c2 * high > 0.0 && v.thrust_n(low) < v.thrust_n(high);
    if [c0, c1, c2].iter().any(|c| !c.is_finite()) || !rises {
        return Err(format!(
            "thrust_curve = [{c0}, {c1}, {c2}] must be three numbers by which thrust grows up to rotor_range[1] = {high}"
        ));
    }
    if v.torque_constant_m > 1.0 {
        return Err(format!(
            "torque_constant_m = {}: a rotor's reaction torque is some hundredths of a N m per N; is it per another unit of \
             thrust, or the moment coefficient of its speed?",
            v.torque_constant_m
        ));
    }
    let lag = v.motor_time_constant_s;
    for (way, value) in [("rising", lag.rising), ("falling", lag.falling)] {
        if !value.is_finite() || value < 0.0 {
            return Err(format!(
                "motor_time_constant_s.{way} = {value} must be 0 (no lag) or a positive number"
            ));
        }
        if value > 5.0 {
            return Err(format!(
                "motor_time_constant_s.{way} = {value} s: nothing flies with that; is it in milliseconds?"
            ));
        }
        if value > 0.0 && value < SHORTEST_LAG_S {
            return Err(format!(
                "motor_time_constant_s.{way} = {value} s is shorter than any step follows: write 0 for a motor that follows \
                 at once"
            ));
        }
    }
    Ok(())
}

fn weight(v: &Vehicle) -> Result<(), String> {
    let weight = v.mass_kg * v.gravity_m_s2;
    let ratio = v.thrust_to_weight();
    if ratio <= 1.0 {
        let most = ratio * weight;
        let grams = if ratio < 0.01 && ratio * 1000.0 > 1.0 { "; is the mass in grams?" } else { "" };
        return Err(format!(
            "thrust to weight is {ratio:.4}: it cannot hover. All rotors together push with {most:.4} N at rotor_range[1] = {}, \
             and mass_kg = {} weighs {weight:.4} N{grams}",
            v.rotor_range[1], v.mass_kg
        ));
    }
    if ratio > 100.0 {
        return Err(format!(
            "thrust to weight is {ratio:.0}: no vehicle has that; is thrust_curve for another unit of the rotor state, or \
             the mass in another unit?"
        ));
    }
    let idle = v.thrust_n(v.rotor_range[0]) / v.thrust_n(v.rotor_range[1]) * ratio;
    if idle >= 1.0 {
        return Err(format!(
            "idle rotors push with {idle:.2} of the weight: it could not sink. rotor_range[0] = {} is too high",
            v.rotor_range[0]
        ));
    }
    Ok(())
}

/// Four rotors are in the order of the Crazyflie: clockwise seen from above, front right (or front) first.
fn order(v: &Vehicle) -> Result<(), String> {
    let azimuth = |i: usize| {
        let arm = v.arm_m(&v.rotors[i]);
        arm.y.atan2(arm.x)
    };
    let turn = std::f64::consts::TAU;
    let first = azimuth(0);
    // Angles from the first rotor, clockwise.
    let clockwise: Vec<f64> = (0..ROTORS).map(|i| (first - azimuth(i)).rem_euclid(turn)).collect();
    let in_order = clockwise.windows(2).all(|w| w[0] < w[1]);
    let starts = (-90.0..=22.5).contains(&first.to_degrees());
    if in_order && starts {
        return Ok(());
    }
    let places: Vec<&str> = (0..ROTORS).map(|i| place(azimuth(i))).collect();
    let counter = clockwise[1..].windows(2).all(|w| w[0] > w[1]);
    // The order in which a file should list its rotors.
    let mut wanted: Vec<usize> = (0..ROTORS).collect();
    let from_front_right = |i: &usize| (22.5_f64.to_radians() - azimuth(*i)).rem_euclid(turn);
    wanted.sort_by(|a, b| from_front_right(a).total_cmp(&from_front_right(b)));
    let mirrored = counter && (-90.0..=22.5).contains(&-first.to_degrees());
    let known = match places[..] {
        ["front right", "rear left", "front left", "rear right"] => "That is PX4's motor order. ",
        ["front left", "rear right", "front right", "rear left"] => {
            return Err(refusal(
                &places,
                "That is PX4's motor order in its own axes (FRD): y points left here, not right. Negate every y and z, and list \
                 them as [0, 3, 1, 2] of this file (counted from 0)",
            ));
        }
        ["front left", "front right", "rear right", "rear left"] => "That is rotorpy's order. ",
        _ if mirrored => {
            "They go counter-clockwise. If the file is in FRD axes (y to the right), negate every y and z: here y points left. \
             Otherwise: "
        }
        _ => "",
    };
    let mend = format!("{known}List them as {wanted:?} of this file (counted from 0)");
    Err(refusal(&places, &mend))
}

fn refusal(places: &[&str], mend: &str) -> String {
    format!(
        "rotors are {}: a policy commands front right, rear right, rear left, front left (x forward, y left), and would drive \
         the wrong motors. {mend}",
        places.join(", ")
    )
}

/// What a person calls a direction.
fn place(azimuth: f64) -> &'static str {
    const NAMES: [&str; 8] =
        ["front", "front left", "left", "rear left", "rear", "rear right", "right", "front right"];
    let eighth = (azimuth / std::f64::consts::FRAC_PI_4).round().rem_euclid(8.0);
    NAMES.get(eighth as usize).copied().unwrap_or("front")
}

/// The rotors turn the vehicle about every axis, and hold it still at hover.
fn balance(v: &Vehicle) -> Result<(), String> {
    let mut effect = v.effectiveness();
    for mut row in effect.row_iter_mut() {
        let length = row.norm();
        if length > 0.0 {
            row.scale_mut(1.0 / length);
        }
    }
    let spins: Vec<f64> = v.rotors.iter().map(|r| r.spin).collect();
    let total: f64 = spins.iter().sum();
    if spins.iter().all(|s| s == &spins[0]) {
        return Err(format!(
            "rotors: every spin is {}: the reaction torques add up and the vehicle spins about z, whatever is commanded. \
             Neighbours turn against each other",
            spins[0]
        ));
    }
    let singular = effect.clone().singular_values();
    if singular.min() < 0.05 * singular.max() {
        return Err(format!(
            "rotors: with spins {spins:?} at these places lift, roll, pitch and yaw cannot be commanded independently (the rows \
             of the rotors' effect depend on each other): neighbours turn against each other, opposite rotors of a quadrotor alike"
        ));
    }
    let hover = v.allocation().map(|columns| columns.column(0).clone_owned());
    let each = v.mass_kg * v.gravity_m_s2 / v.rotors.iter().map(|r| r.axis[2]).sum::<f64>();
    let [low, high] = v.thrust_range_n();
    let Some(hover) = hover else { return Ok(()) };
    for (i, share) in hover.iter().enumerate() {
        let thrust = share * each;
        if thrust <= low.max(0.0) || thrust >= high {
            let why = if total.abs() > 0.5 && v.rotors.len().is_multiple_of(2) {
                format!("spins {spins:?} do not cancel")
            } else {
                "the rotors do not surround the centre of mass evenly".to_owned()
            };
            return Err(format!(
                "rotors[{i}] would have to push with {thrust:.4} N for hover without turning, of {low:.4} to {high:.4} N that it \
                 can: {why}"
            ));
        }
    }
    Ok(())
}

/// Inertia, mass and arms belong to one body.
fn size(v: &Vehicle) -> Result<(), String> {
    let arm = v.rotors.iter().map(|r| v.arm_m(r).xy().norm()).fold(0.0, f64::max);
    for (axis, inertia) in v.inertia_kg_m2.into_iter().enumerate() {
        let gyration = (inertia / v.mass_kg).sqrt();
        let share = gyration / arm;
        if !(0.05..=3.0).contains(&share) {
            let hint = if share < 0.05 {
                "mass in grams, arms in millimetres, or inertia in another unit?"
            } else {
                "inertia in g m² or kg cm², or arms in another unit?"
            };
            return Err(format!(
                "inertia_kg_m2[{axis}] = {inertia} of mass_kg = {} puts the mass {gyration:.5} m from the axis (radius of \
                 gyration), {share:.3} of the longest arm, {arm:.4} m: {hint}",
                v.mass_kg
            ));
        }
    }
    Ok(())
}
