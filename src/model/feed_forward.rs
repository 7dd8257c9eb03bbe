//! The linear modules of a layer's feed-forward, in any representation: one for every token, or experts of which a router
//! chooses some for each token (Shazeer et al. 2017). Refuses to know families and files.

/// A feed-forward.
#[derive(Debug, Clone)]
pub struct Mlp<L> {
    /// The gate and the value that it multiplies: two modules, or one whose outputs are both. Without a gate the inner module.
    pub gate_up: Vec<L>,
    /// The output.
    pub down: L,
}

/// Experts and their router.
#[derive(Debug, Clone)]
pub struct Experts<L> {
    /// Its outputs are a logit for each expert.
    pub router: L,
    /// Each has a gate and an up module.
    pub each: Vec<Mlp<L>>,
    /// The one that computes every token, and the module whose sigmoid is the factor on it.
    pub shared: Option<(Mlp<L>, L)>,
}

/// The feed-forward of a layer.
#[derive(Debug, Clone)]
pub enum FeedForward<L> {
    /// One for every token.
    Dense(Mlp<L>),
    /// Experts.
    Experts(Experts<L>),
}

impl<L> Mlp<L> {
    fn modules(&self) -> impl Iterator<Item = &L> {
        self.gate_up.iter().chain([&self.down])
    }

    fn map<M, E>(&self, linear: &impl Fn(&L) -> Result<M, E>) -> Result<Mlp<M>, E> {
        Ok(Mlp { gate_up: self.gate_up.iter().map(linear).collect::<Result<_, E>>()?, down: linear(&self.down)? })
    }
}

impl<L> FeedForward<L> {
    /// The modules of a feed-forward without experts.
    pub fn whole(&self) -> impl Iterator<Item = &L> {
        let mlp = if let Self::Dense(mlp) = self { Some(mlp) } else { None };
        mlp.into_iter().flat_map(Mlp::modules)
    }

    /// The modules of experts: the router, theirs, and those of the one that every token goes through.
    pub fn routed(&self) -> impl Iterator<Item = &L> {
        let experts = if let Self::Experts(experts) = self { Some(experts) } else { None };
        experts.into_iter().flat_map(|experts| {
            let each = experts.each.iter().flat_map(Mlp::modules);
            let shared = experts.shared.iter().flat_map(|(mlp, gate)| mlp.modules().chain([gate]));
            [&experts.router].into_iter().chain(each).chain(shared)
        })
    }

    pub(super) fn map<M, E>(&self, linear: &impl Fn(&L) -> Result<M, E>) -> Result<FeedForward<M>, E> {
        Ok(match self {
            Self::Dense(mlp) => FeedForward::Dense(mlp.map(linear)?),
            Self::Experts(experts) => FeedForward::Experts(Experts {
                router: linear(&experts.router)?,
                each: experts.each.iter().map(|mlp| mlp.map(linear)).collect::<Result<_, E>>()?,
                shared: match &experts.shared {
                    Some((mlp, gate)) => Some((mlp.map(linear)?, linear(gate)?)),
                    None => None,
                },
            }),
        })
    }
}
