//! What follows from a configuration for one layer: its sizes, its window, its rope.

use super::{Config, LOOKED_AT};
use crate::model::layer::{ExpertSpec, LayerPattern, NormKind};
use crate::model::layer_kinds::{KeySource, LayerKinds, LayerShape};

impl Config {
    /// The sizes of layer `i`.
    #[must_use]
    pub fn shape_of(&self, i: usize) -> LayerShape {
        let (kinds, windowed) = (&self.layer.kinds, self.layer.windows.has(i));
        let global = kinds.global_heads.filter(|_| !windowed);
        let sharing = kinds.sharing.filter(|sharing| i >= sharing.first);
        LayerShape {
            heads: self.heads,
            kv_heads: global.map_or(self.kv_heads, |heads| heads.kv_heads),
            head_dim: global.map_or(self.head_dim, |heads| heads.head_dim),
            ff: if sharing.is_some_and(|sharing| sharing.double_ff) { self.ff.saturating_mul(2) } else { self.ff },
            keys: match sharing {
                Some(sharing) => KeySource::Layer(if windowed { sharing.windowed } else { sharing.full }),
                None if kinds.keys_as_values && !windowed => KeySource::KeysAlone,
                None => KeySource::Own,
            },
            kept: kinds.sharing.is_some_and(|sharing| [sharing.windowed, sharing.full].contains(&i)),
        }
    }

    /// Names of tensors that files of such a model may hold and that nothing reads: keys and values of layers that read those of
    /// others.
    pub(crate) fn unread_keys(&self) -> Vec<String> {
        let Some(sharing) = self.layer.kinds.sharing else { return Vec::new() };
        let names = &self.family.names;
        let parts = [names.linears[1], names.linears[2], names.k_norm];
        let of = |i: usize| {
            let module = move |name| self.layer_name(i, name);
            parts.into_iter().flat_map(move |name| [".weight", ".bias"].map(|end| format!("{}{end}", module(name))))
        };
        (sharing.first..self.layers.min(sharing.first + LOOKED_AT)).flat_map(of).collect()
    }

    /// The largest width of a token's queries in a layer.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.heads * self.layer.kinds.global_heads.map_or(0, |heads| heads.head_dim).max(self.head_dim)
    }

    /// The largest width of a token's keys in a layer, and of its values.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        let global = self.layer.kinds.global_heads.map_or(0, |heads| heads.kv_heads.saturating_mul(heads.head_dim));
        global.max(self.kv_heads * self.head_dim)
    }

    /// Dimensions of a head that rope `i` rotates, as [`Config::rope_of`] numbers them.
    #[must_use]
    pub fn rotary_of(&self, i: usize) -> usize {
        self.layer.kinds.global_heads.filter(|_| i == 0).map_or(self.rotary, |heads| heads.head_dim)
    }

    /// Whether accelerators compute the model on the reference path: their own backend has neither experts nor layers of several
    /// kinds.
    #[must_use]
    pub fn needs_reference(&self) -> bool {
        let layer = &self.layer;
        let kinds = layer.kinds != LayerKinds::default() || layer.value_norm || layer.output_factor;
        layer.experts.is_some() || kinds || layer.per_layer.is_some()
    }

    /// The largest width of the feed-forward in layers without experts; 0 where all have experts.
    #[must_use]
    pub fn dense_ff(&self) -> usize {
        let all = self.layer.experts.as_ref().is_some_and(|experts| experts.layers == LayerPattern::All);
        if all {
            return 0;
        }
        let double = self.layer.kinds.sharing.is_some_and(|sharing| sharing.double_ff);
        if double { self.ff.saturating_mul(2) } else { self.ff }
    }

    /// The largest width of a token's feed-forward: the sum of its experts' where the layers have experts.
    #[must_use]
    pub fn token_ff(&self) -> usize {
        let chosen = |experts: &ExpertSpec| experts.chosen * experts.width + experts.shared.unwrap_or(0);
        self.layer.experts.as_ref().map_or(0, chosen).max(self.dense_ff())
    }

    /// Whether norms have a bias.
    #[must_use]
    pub fn norm_bias(&self) -> bool {
        self.layer.norm == NormKind::Layer
    }

    /// The rope of layer `i`: 0 the model's, 1 the one of layers with a window; none if the layer does not rotate.
    #[must_use]
    pub fn rope_of(&self, i: usize) -> Option<usize> {
        let local = self.local_rope.is_some() && self.layer.windows.has(i);
        self.layer.rope.has(i).then_some(usize::from(local))
    }

    /// The window of layer `i`; none if it attends to the whole context.
    #[must_use]
    pub fn window_of(&self, i: usize) -> Option<usize> {
        self.window.filter(|_| self.layer.windows.has(i))
    }
}
