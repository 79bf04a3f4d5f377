//! What is compared with what: the arms of each study, and what was published of them.

/// One way to train.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Name in files and tables.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// `--method` of `spikewing train`.
    pub method: &'static str,
    /// `--setting` of `spikewing train`.
    pub setting: &'static str,
    /// `--param` of `spikewing train`.
    pub parameters: Vec<String>,
    /// Published return; empty: none was.
    pub published_return: &'static str,
    /// Published environment steps to a return of 100; empty: none were.
    pub published_steps: &'static str,
}

/// A study: arms, each trained with several seeds and the same number of updates.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Name of the study and of its folder.
    pub name: &'static str,
    /// Title of its figure.
    pub title: &'static str,
    /// What is compared.
    pub arms: Vec<Arm>,
}

/// The guide alone flies; what is learned from it is offline.
const GUIDE_FLIES: &str = "supervisor.student_enabled:=false";
const NO_CLONING: &str = "online_learner.bc.enabled:=false";
const NO_JUMP_START: &str = "online_learner.jump_start.enabled:=false";
const UPDATES_PER_EPOCH: u64 = 100;

fn arm(name: &'static str, about: &'static str, method: &'static str, parameters: &[&str]) -> Arm {
    let parameters = parameters.iter().map(|&p| p.to_owned()).collect();
    // As the paper has it: one airframe, one setpoint.
    Arm { name, about, method, setting: "plain", parameters, published_return: "", published_steps: "" }
}

impl Arm {
    fn published(self, published_return: &'static str, published_steps: &'static str) -> Self {
        Self { published_return, published_steps, ..self }
    }

    /// With the paper's own settings of learning.
    fn with_published_settings(self) -> Self {
        Self { setting: "published", ..self }
    }
}

/// A third of the run, however long it is, only imitates: in a short run nothing would follow the critics else. The published
/// settings are for long runs and stay as they are, but that their curriculum is spread over the run.
fn spread(arms: &mut [Arm], updates: u64) {
    for arm in arms {
        if arm.setting == "published" {
            curriculum(arm, updates);
        } else {
            arm.parameters.push(format!("online_learner.critic_warmup_updates:={}", updates / 3));
        }
    }
}

/// The six stages of the reward, spread over a run.
fn curriculum(arm: &mut Arm, updates: u64) {
    let epochs = (updates / (6 * UPDATES_PER_EPOCH)).max(1);
    arm.parameters.push(format!("online_learner.curriculum.epochs_per_stage:={epochs}"));
}

/// The methods under the curriculum, whose six stages are spread over the run.
pub fn methods(updates: u64) -> Comparison {
    let mut arms = vec![
        arm("td3bc_jsrl", "this project's settings: cloning follows the guide's advice", "td3bc_jsrl", &[])
            .published("≈ 400", ""),
        arm("td3bc", "TD3BC from what the guide flies", "td3bc", &[GUIDE_FLIES]).published("≤ −200", ""),
        arm("bc", "cloning of what the guide flies", "bc", &[GUIDE_FLIES]).published("≤ −200", ""),
        arm("td3", "reinforcement alone; the student flies", "td3", &[]).published("≤ −200", ""),
        arm(
            "alpha_0",
            "this project's settings without reinforcement: α = 0",
            "td3bc_jsrl",
            &["online_learner.alpha:=0.0"],
        ),
    ];
    for arm in &mut arms {
        curriculum(arm, updates);
    }
    arms.extend([
        arm(
            "published_td3bc_jsrl",
            "the published settings: cloning follows the applied action",
            "td3bc_jsrl",
            &[],
        )
        .published("≈ 400", "")
        .with_published_settings(),
        arm("published_td3bc", "… without jump-start, from what the guide flies", "td3bc", &[GUIDE_FLIES])
            .published("≤ −200", "")
            .with_published_settings(),
        arm("published_bc", "… cloning alone", "bc", &[GUIDE_FLIES])
            .published("≤ −200", "")
            .with_published_settings(),
        arm("published_td3", "… reinforcement alone", "td3", &[])
            .published("≤ −200", "")
            .with_published_settings(),
    ]);
    spread(&mut arms, updates);
    Comparison { name: "methods", title: "Methods under the reward curriculum", arms }
}

/// TD3BC+JSRL without its parts.
pub fn ablation(updates: u64) -> Comparison {
    let mut arms = vec![
        arm("both", "BC term and jump-start", "td3bc_jsrl", &[]).published("412 ± 6.7", "2,200 ± 124"),
        arm("no_bc_term", "without the BC term", "td3bc_jsrl", &[NO_CLONING])
            .published("334 ± 25.6", "33,030 ± 1,600"),
        arm("no_jump_start", "without jump-start", "td3bc_jsrl", &[NO_JUMP_START])
            .published("32 ± 1.2", "never"),
        arm("neither", "without both", "td3bc_jsrl", &[NO_CLONING, NO_JUMP_START])
            .published("36 ± 4.1", "never"),
    ];
    let names = ["published_both", "published_no_bc_term", "published_no_jump_start", "published_neither"];
    let again = arms.clone().into_iter().zip(names);
    arms.extend(again.map(|(arm, name)| Arm { name, ..arm }.with_published_settings()));
    spread(&mut arms, updates);
    Comparison { name: "ablation", title: "TD3BC+JSRL without its parts", arms }
}

/// Surrogate slopes, for cloning and for reinforcement.
pub fn slopes(updates: u64) -> Comparison {
    const STEPS: u64 = 20;
    let interval = format!("online_learner.slope.interval_updates:={}", (updates / STEPS).max(1));
    let steps = format!("online_learner.slope.interval_steps:={STEPS}");
    let schedule = |name: &str| format!("online_learner.slope.schedule:={name}");
    let fixed = |k: u32| [schedule("fixed"), format!("online_learner.slope.fixed:={k}.0")];
    // What each slope is called: with this project's settings, with the published ones, and in cloning.
    type Names = [&'static str; 3];
    let three = |[rl, published, bc]: Names, about: &'static str, slope: &[String]| {
        let of = [
            arm(rl, about, "td3bc_jsrl", &[]),
            arm(published, about, "td3bc_jsrl", &[]).with_published_settings(),
            arm(bc, about, "bc", &[GUIDE_FLIES]),
        ];
        of.map(|mut arm| {
            arm.parameters.extend_from_slice(slope);
            arm
        })
    };
    let interval = [schedule("interval"), interval, steps];
    let slopes = [
        three(["rl_fixed_1", "published_fixed_1", "bc_fixed_1"], "k = 1, shallow", &fixed(1)),
        three(["rl_fixed_10", "published_fixed_10", "bc_fixed_10"], "k = 10", &fixed(10)),
        three(["rl_fixed_100", "published_fixed_100", "bc_fixed_100"], "k = 100, steep", &fixed(100)),
        three(
            ["rl_interval", "published_interval", "bc_interval"],
            "k from 1 to 100 at fixed intervals",
            &interval,
        ),
        three(
            ["rl_adaptive", "published_adaptive", "bc_adaptive"],
            "k follows the return",
            &[schedule("adaptive")],
        ),
    ];
    let mut arms: Vec<Arm> = slopes.into_iter().flatten().collect();
    spread(&mut arms, updates);
    Comparison {
        name: "slopes",
        title: "Surrogate slopes: reinforcement (rl; published: with the paper's settings) and cloning (bc)",
        arms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_has_its_own_name_and_parameters_that_the_nodes_know() {
        for comparison in [methods(3000), ablation(3000), slopes(3000)] {
            let mut names: Vec<&str> = comparison.arms.iter().map(|a| a.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), comparison.arms.len(), "{}", comparison.name);
            for arm in &comparison.arms {
                for text in &arm.parameters {
                    let (path, value) = text.split_once(":=").unwrap();
                    let (node, name) = path.split_once('.').unwrap();
                    let kind = crate::registry::find(node).unwrap();
                    let mut options = spikewing_runtime::NodeOptions::of(kind);
                    let value = spikewing_runtime::parameter_file::value_of_text(value).unwrap();
                    options.parameters.set(name, value).unwrap_or_else(|e| panic!("{text}: {e}"));
                }
            }
        }
    }
}
