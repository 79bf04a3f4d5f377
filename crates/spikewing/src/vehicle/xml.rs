//! A vehicle from an SDF or URDF: links for mass, centre and inertia, Gazebo's multicopter motor plugin (or the `properties` of
//! gym-pybullet-drones) for the rotors.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use nalgebra::{Isometry3, Matrix3, Translation3, UnitQuaternion, Vector3};
use roxmltree::{Document, Node};

use super::{
    draft::{Draft, DraftRotor, Known},
    stem,
};

/// A body with its mass.
#[derive(Clone, Debug)]
struct Link {
    name: String,
    /// In the model's frame.
    pose: Isometry3<f64>,
    mass_kg: f64,
    /// Centre of mass in the model's frame.
    centre_m: Vector3<f64>,
    /// About that centre, in the model's axes.
    inertia: Matrix3<f64>,
}

/// A motor of Gazebo's plugin.
#[derive(Clone, Debug)]
struct Motor {
    number: f64,
    link: String,
    counter_clockwise: bool,
    thrust_constant: f64,
    torque_constant_m: f64,
    rising_s: f64,
    falling_s: f64,
    most: f64,
    drag: f64,
}

/// What files told so far.
#[derive(Default)]
struct Found {
    name: String,
    links: Vec<Link>,
    motors: Vec<Motor>,
    notes: Vec<String>,
}

/// Reads a vehicle.
pub fn read(text: &str, path: &Path, known: &Known) -> Result<Draft, String> {
    let document = parse(text)?;
    let mut found = Found::default();
    let root = document.root_element();
    match root.tag_name().name() {
        "robot" => {
            found.name = root.attribute("name").unwrap_or(stem(path)).to_owned();
            urdf_links(root, &mut found)?;
            plugins(root, &mut found)?;
            if found.motors.is_empty()
                && let Some(properties) = root.children().find(|n| n.has_tag_name("properties"))
            {
                return pybullet(properties, &found, known);
            }
        }
        "sdf" => sdf(root, path, Isometry3::identity(), 0, &mut found)?,
        other => return Err(format!("<{other}> is neither an SDF (<sdf>) nor a URDF (<robot>)")),
    }
    draft(found, known)
}

fn parse(text: &str) -> Result<Document<'_>, String> {
    Document::parse(text.trim_start_matches('\u{feff}')).map_err(|e| format!("it is no XML: {e}"))
}

fn child<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|n| n.has_tag_name(name))
}

fn position(node: Node<'_, '_>) -> String {
    let at = node.document().text_pos_at(node.range().start);
    format!("line {}: <{}>", at.row, node.tag_name().name())
}

fn numbers<const N: usize>(text: &str, node: Node<'_, '_>) -> Result<[f64; N], String> {
    let all: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    all.ok()
        .and_then(|v| <[f64; N]>::try_from(v).ok())
        .filter(|v| v.iter().all(|x| x.is_finite()))
        .ok_or_else(|| {
            format!(
                "{}: `{}` should be {N} number{}",
                position(node),
                text.trim(),
                if N == 1 { "" } else { "s" }
            )
        })
}

fn number(node: Node<'_, '_>, name: &str) -> Result<Option<f64>, String> {
    let Some(at) = child(node, name) else { return Ok(None) };
    Ok(Some(numbers::<1>(at.text().unwrap_or_default(), at)?[0]))
}

fn pose_of([x, y, z, roll, pitch, yaw]: [f64; 6]) -> Isometry3<f64> {
    Isometry3::from_parts(Translation3::new(x, y, z), UnitQuaternion::from_euler_angles(roll, pitch, yaw))
}

/// An SDF `<pose>` and the frame that it is relative to.
fn sdf_pose(node: Node<'_, '_>) -> Result<(Isometry3<f64>, Option<String>), String> {
    let Some(at) = child(node, "pose") else { return Ok((Isometry3::identity(), None)) };
    if at.attribute("rotation_format").is_some_and(|f| f != "euler_rpy")
        || at.attribute("degrees") == Some("true")
    {
        return Err(format!("{}: only poses `x y z roll pitch yaw` in radians are read", position(at)));
    }
    let pose = match at.text().map(str::trim).unwrap_or_default() {
        "" => Isometry3::identity(),
        text => pose_of(numbers::<6>(text, at)?),
    };
    let frame = at.attribute("relative_to").filter(|f| !f.is_empty() && *f != "__model__");
    Ok((pose, frame.map(str::to_owned)))
}

fn sdf(
    root: Node<'_, '_>,
    path: &Path,
    placed: Isometry3<f64>,
    depth: u32,
    found: &mut Found,
) -> Result<(), String> {
    let model = root.descendants().find(|n| n.has_tag_name("model")).ok_or("there is no <model> in it")?;
    if found.name.is_empty() {
        found.name = model.attribute("name").unwrap_or(stem(path)).to_owned();
    }
    for include in model.children().filter(|n| n.has_tag_name("include")) {
        let uri = child(include, "uri").and_then(|u| u.text()).unwrap_or_default().trim();
        let inner = included(uri, path).ok_or_else(|| {
            format!(
                "{}: the model `{uri}` is not beside this one: put its folder next to the folder of {}",
                position(include),
                path.display()
            )
        })?;
        if depth > 8 {
            return Err(format!("{}: models include each other in a circle", position(include)));
        }
        let text = std::fs::read_to_string(&inner).map_err(|e| format!("{}: {e}", inner.display()))?;
        let document = parse(&text).map_err(|e| format!("{}: {e}", inner.display()))?;
        let (pose, _) = sdf_pose(include)?;
        sdf(document.root_element(), &inner, placed * pose, depth + 1, found)
            .map_err(|e| format!("{}: {e}", inner.display()))?;
    }
    let poses = frames(model)?;
    for link in model.children().filter(|n| n.has_tag_name("link")) {
        let name = link.attribute("name").unwrap_or_default().to_owned();
        let pose = placed * poses.get(&name).copied().unwrap_or_else(Isometry3::identity);
        let (mut mass_kg, mut centre, mut inertia) = (0.0, Isometry3::identity(), Matrix3::zeros());
        if let Some(inertial) = child(link, "inertial") {
            centre = sdf_pose(inertial)?.0;
            mass_kg = number(inertial, "mass")?.unwrap_or(1.0);
            if let Some(i) = child(inertial, "inertia") {
                let of = |name: &str, default: f64| number(i, name).map(|v| v.unwrap_or(default));
                let (xx, yy, zz) = (of("ixx", 1.0)?, of("iyy", 1.0)?, of("izz", 1.0)?);
                let (xy, xz, yz) = (of("ixy", 0.0)?, of("ixz", 0.0)?, of("iyz", 0.0)?);
                inertia = Matrix3::new(xx, xy, xz, xy, yy, yz, xz, yz, zz);
            }
        }
        found.links.push(body(name, pose, mass_kg, centre, inertia));
    }
    plugins(model, found)
}

/// Poses of a model's links, joints and frames in the model's frame.
fn frames(model: Node<'_, '_>) -> Result<BTreeMap<String, Isometry3<f64>>, String> {
    let mut open = Vec::new();
    for node in model.children().filter(|n| ["link", "frame", "joint"].contains(&n.tag_name().name())) {
        let (pose, relative) = sdf_pose(node)?;
        let implied = match node.tag_name().name() {
            // A joint stands at its child, unless it says otherwise.
            "joint" => child(node, "child").and_then(|c| c.text()).map(|t| t.trim().to_owned()),
            "frame" => node.attribute("attached_to").map(str::to_owned),
            _ => None,
        };
        open.push((
            node.attribute("name").unwrap_or_default().to_owned(),
            pose,
            relative.or(implied),
            position(node),
        ));
    }
    let mut known: BTreeMap<String, Isometry3<f64>> = BTreeMap::new();
    while !open.is_empty() {
        let before = open.len();
        open.retain(|(name, pose, relative, _)| {
            let at = match relative {
                None => Some(Isometry3::identity()),
                Some(frame) => known.get(frame).copied(),
            };
            at.is_none_or(|at| {
                known.insert(name.clone(), at * pose);
                false
            })
        });
        if open.len() == before {
            // Only a link without a place matters; joints may hang on included models.
            open.retain(|(.., place)| place.contains("<link>"));
            let Some((name, _, relative, place)) = open.first() else { break };
            return Err(format!(
                "{place} `{name}` is placed relative to `{}`, which is not in this model",
                relative.clone().unwrap_or_default()
            ));
        }
    }
    Ok(known)
}

/// `model://x500_base` or a relative path, beside the including model.
fn included(uri: &str, from: &Path) -> Option<PathBuf> {
    let folder = from.parent()?;
    let name = uri.strip_prefix("model://").unwrap_or(uri);
    let places = [folder.join("..").join(name), folder.join(name)];
    places.into_iter().flat_map(|p| [p.join("model.sdf"), p]).find(|p| p.is_file())
}

fn urdf_origin(node: Node<'_, '_>) -> Result<Isometry3<f64>, String> {
    let Some(origin) = child(node, "origin") else { return Ok(Isometry3::identity()) };
    let of = |name: &str| origin.attribute(name).map_or(Ok([0.0; 3]), |text| numbers::<3>(text, origin));
    let ([x, y, z], [roll, pitch, yaw]) = (of("xyz")?, of("rpy")?);
    Ok(pose_of([x, y, z, roll, pitch, yaw]))
}

fn urdf_links(robot: Node<'_, '_>, found: &mut Found) -> Result<(), String> {
    let mut parents: BTreeMap<&str, (&str, Isometry3<f64>)> = BTreeMap::new();
    for joint in robot.children().filter(|n| n.has_tag_name("joint")) {
        let link = |end: &str| child(joint, end).and_then(|n| n.attribute("link"));
        if let (Some(parent), Some(child)) = (link("parent"), link("child")) {
            parents.insert(child, (parent, urdf_origin(joint)?));
        }
    }
    for link in robot.children().filter(|n| n.has_tag_name("link")) {
        let name = link.attribute("name").unwrap_or_default();
        let (mut pose, mut at, mut steps) = (Isometry3::identity(), name, 0);
        while let Some((parent, origin)) = parents.get(at) {
            pose = origin * pose;
            at = parent;
            steps += 1;
            if steps > parents.len() {
                return Err(format!("{}: link `{name}` hangs on itself", position(link)));
            }
        }
        let (mut mass_kg, mut centre, mut inertia) = (0.0, Isometry3::identity(), Matrix3::zeros());
        if let Some(inertial) = child(link, "inertial") {
            centre = urdf_origin(inertial)?;
            let value = |element: &str, attribute: &str| {
                let at = child(inertial, element)?;
                at.attribute(attribute).map(|text| numbers::<1>(text, at).map(|[v]| v))
            };
            mass_kg = value("mass", "value").transpose()?.unwrap_or(0.0);
            let of = |name: &str| value("inertia", name).transpose().map(Option::unwrap_or_default);
            let (xx, yy, zz, xy, xz, yz) =
                (of("ixx")?, of("iyy")?, of("izz")?, of("ixy")?, of("ixz")?, of("iyz")?);
            inertia = Matrix3::new(xx, xy, xz, xy, yy, yz, xz, yz, zz);
        }
        found.links.push(body(name.to_owned(), pose, mass_kg, centre, inertia));
    }
    Ok(())
}

fn body(
    name: String,
    pose: Isometry3<f64>,
    mass_kg: f64,
    centre: Isometry3<f64>,
    inertia: Matrix3<f64>,
) -> Link {
    let there = pose * centre;
    let turn = *there.rotation.to_rotation_matrix().matrix();
    Link {
        name,
        pose,
        mass_kg,
        centre_m: there.translation.vector,
        inertia: turn * inertia * turn.transpose(),
    }
}

fn plugins(root: Node<'_, '_>, found: &mut Found) -> Result<(), String> {
    for plugin in root.descendants().filter(|n| n.has_tag_name("plugin")) {
        let called = format!(
            "{} {}",
            plugin.attribute("name").unwrap_or_default(),
            plugin.attribute("filename").unwrap_or_default()
        );
        let motor = called.contains("MulticopterMotorModel")
            || called.contains("multicopter-motor-model")
            || called.contains("motor_model");
        if !motor {
            continue;
        }
        let text = |name: &str| child(plugin, name).and_then(|n| n.text()).map(|t| t.trim().to_owned());
        let need = |name: &str| -> Result<f64, String> {
            number(plugin, name)?.ok_or_else(|| format!("{}: <{name}> is missing", position(plugin)))
        };
        if text("motorType").is_some_and(|t| t != "velocity") {
            continue;
        }
        let counter_clockwise = match text("turningDirection").as_deref() {
            Some("ccw") => true,
            Some("cw") => false,
            other => {
                return Err(format!(
                    "{}: <turningDirection> is `{}`; expected cw or ccw",
                    position(plugin),
                    other.unwrap_or("missing")
                ));
            }
        };
        found.motors.push(Motor {
            number: number(plugin, "motorNumber")?
                .or(number(plugin, "actuator_number")?)
                .unwrap_or(found.motors.len() as f64),
            link: text("linkName").ok_or_else(|| format!("{}: <linkName> is missing", position(plugin)))?,
            counter_clockwise,
            thrust_constant: need("motorConstant")?,
            torque_constant_m: need("momentConstant")?,
            rising_s: need("timeConstantUp")?,
            falling_s: need("timeConstantDown")?,
            most: need("maxRotVelocity")?,
            drag: number(plugin, "rotorDragCoefficient")?.unwrap_or(0.0),
        });
        if number(plugin, "rollingMomentCoefficient")?.is_some_and(|c| c != 0.0) {
            let note = "Left out: the rolling moment of the rotors (rollingMomentCoefficient).";
            if !found.notes.iter().any(|n| n == note) {
                found.notes.push(note.to_owned());
            }
        }
    }
    Ok(())
}

/// Mass, centre of mass and inertia of all links together.
fn together(links: &[Link]) -> Result<(f64, Vector3<f64>, Matrix3<f64>), String> {
    let mass: f64 = links.iter().map(|l| l.mass_kg).sum();
    if mass <= 0.0 {
        return Err("its links have no mass".to_owned());
    }
    let centre = links.iter().map(|l| l.centre_m * l.mass_kg).sum::<Vector3<f64>>() / mass;
    let inertia = links.iter().fold(Matrix3::zeros(), |sum, l| {
        let d = l.centre_m - centre;
        // The parallel-axis theorem.
        sum + l.inertia + (Matrix3::identity() * d.norm_squared() - d * d.transpose()) * l.mass_kg
    });
    Ok((mass, centre, inertia))
}

fn rows(m: &Matrix3<f64>) -> [[f64; 3]; 3] {
    std::array::from_fn(|i| std::array::from_fn(|j| m[(i.min(j), i.max(j))]))
}

fn draft(mut found: Found, known: &Known) -> Result<Draft, String> {
    found.motors.sort_by(|a, b| a.number.total_cmp(&b.number));
    let Some(first) = found.motors.first().cloned() else {
        return Err("it has no rotors: none of its plugins is Gazebo's multicopter motor model (gz-sim-multicopter-motor-model-system, \
                    libgazebo_motor_model.so)"
            .to_owned());
    };
    for motor in &found.motors {
        let alike = [
            (motor.thrust_constant, first.thrust_constant, "motorConstant"),
            (motor.torque_constant_m, first.torque_constant_m, "momentConstant"),
            (motor.rising_s, first.rising_s, "timeConstantUp"),
            (motor.falling_s, first.falling_s, "timeConstantDown"),
            (motor.most, first.most, "maxRotVelocity"),
            (motor.drag, first.drag, "rotorDragCoefficient"),
        ];
        if let Some((here, there, what)) = alike.into_iter().find(|(here, there, _)| here != there) {
            return Err(format!(
                "motor {} has {what} {here}, motor {} has {there}: a vehicle's rotors are alike",
                motor.number, first.number
            ));
        }
    }
    let (mass_kg, centre, inertia) = together(&found.links)?;
    let mut rotors = Vec::new();
    for motor in &found.motors {
        let link = found
            .links
            .iter()
            .find(|l| l.name == motor.link || motor.link.rsplit("::").next() == Some(&l.name))
            .ok_or_else(|| {
                format!("motor {} turns the link `{}`, which is not in the model", motor.number, motor.link)
            })?;
        let axis: Vector3<f64> = link.pose.rotation * Vector3::z();
        rotors.push(DraftRotor {
            position_m: link.pose.translation.vector.into(),
            spin: if motor.counter_clockwise { -1.0 } else { 1.0 },
            axis: axis.into(),
        });
    }
    let mut notes = found.notes;
    notes.push(format!("{} links together, the rotors as parts of the body.", found.links.len()));
    let rotor_range = known.rotor_range.unwrap_or_else(|| {
        notes.push(
            "ASSUMED: no command is 0 rad/s. PX4's SIM_GZ_EC_MIN may say otherwise (150 for the x500): --rotor-range".to_owned(),
        );
        [0.0, first.most]
    });
    let mut draft = Draft {
        name: known.name.clone().unwrap_or(found.name),
        source: "From a model with Gazebo's multicopter motors. The rotor state is the speed in rad/s."
            .to_owned(),
        mass_kg: known.mass_kg.unwrap_or(mass_kg),
        gravity_m_s2: 9.81,
        inertia_kg_m2: known
            .inertia_kg_m2
            .map_or_else(|| rows(&inertia), |[x, y, z]| [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]]),
        centre_of_mass_m: centre.into(),
        rotors,
        thrust_curve: [0.0, 0.0, first.thrust_constant],
        torque_constant_m: first.torque_constant_m,
        lag_s: known.motor_lag_s.map_or([first.rising_s, first.falling_s], |lag| [lag; 2]),
        rotor_range,
        drag_linear: [0.0; 3],
        drag_angular: [0.0; 3],
        rotor_drag_n_s_m: first.drag,
        notes,
    };
    draft.in_order();
    Ok(draft)
}

/// The URDFs of gym-pybullet-drones: constants as attributes of `<properties>`, rotors as links `prop0_link` …
fn pybullet(properties: Node<'_, '_>, found: &Found, known: &Known) -> Result<Draft, String> {
    let need = |name: &str| {
        let text = properties
            .attribute(name)
            .ok_or_else(|| format!("{}: the attribute `{name}` is missing", position(properties)))?;
        numbers::<1>(text, properties).map(|[v]| v)
    };
    let (thrust, torque, ratio) = (need("kf")?, need("km")?, need("thrust2weight")?);
    let (mass_kg, centre, inertia) = together(&found.links)?;
    let mass_kg = known.mass_kg.unwrap_or(mass_kg);
    let mut rotors = Vec::new();
    for i in 0..4 {
        let name = format!("prop{i}_link");
        let link = found
            .links
            .iter()
            .find(|l| l.name == name)
            .ok_or_else(|| format!("there is no link `{name}`"))?;
        // Its dynamics turn −, +, −, + about z.
        let spin = if i % 2 == 0 { -1.0 } else { 1.0 };
        rotors.push(DraftRotor { position_m: link.centre_m.into(), spin, axis: [0.0, 0.0, 1.0] });
    }
    let most = (ratio * mass_kg * 9.81 / (4.0 * thrust)).sqrt();
    let mut draft = Draft {
        name: known.name.clone().unwrap_or_else(|| found.name.clone()),
        source: "From a URDF of gym-pybullet-drones. The rotor state is the speed in RPM.".to_owned(),
        mass_kg,
        gravity_m_s2: 9.81,
        inertia_kg_m2: known.inertia_kg_m2.map_or_else(|| rows(&inertia), |[x, y, z]| [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]]),
        centre_of_mass_m: centre.into(),
        rotors,
        thrust_curve: [0.0, 0.0, thrust],
        torque_constant_m: torque / thrust,
        lag_s: [known.motor_lag_s.unwrap_or(0.0); 2],
        rotor_range: known.rotor_range.unwrap_or([0.0, super::rounded(most)]),
        drag_linear: [0.0; 3],
        drag_angular: [0.0; 3],
        rotor_drag_n_s_m: 0.0,
        notes: vec!["Left out: ground effect, drag and downwash of that simulator. It has no motor lag; --motor-lag-s gives one.".to_owned()],
    };
    draft.in_order();
    Ok(draft)
}
