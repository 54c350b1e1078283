package openai

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// An orderer draws the order in which calls go to the targets. Each call has an order of
// its own, so that the load is spread without any state that calls share. It does not
// change after it is made, and is safe for concurrent use.
type orderer struct {
	tiers [][]int   // targets by tier, lower ones first; within a tier as configured
	fixed []uint8   // the order, if each tier has one target; shared by all calls
	names []string  // of each target, for the hash of a session
	share []float64 // of each target: its weight, with 1 for 0
}

// newOrderer sorts the targets into tiers once. The sort is stable, so that
// targets of one tier stay as they were configured.
func newOrderer(targets []Target) *orderer {
	o := &orderer{names: make([]string, len(targets)), share: make([]float64, len(targets))}
	byTier := make([]int, len(targets))
	for i := range targets {
		byTier[i] = i
		o.names[i] = targets[i].name()
		o.share[i] = float64(max(targets[i].Weight, 1))
	}
	slices.SortStableFunc(byTier, func(a, b int) int { return targets[a].Tier - targets[b].Tier })
	for k, i := range byTier {
		if k == 0 || targets[byTier[k-1]].Tier != targets[i].Tier {
			o.tiers = append(o.tiers, nil)
		}
		last := len(o.tiers) - 1
		o.tiers[last] = append(o.tiers[last], i)
	}
	if len(o.tiers) == len(targets) {
		for _, i := range byTier {
			o.fixed = append(o.fixed, uint8(i))
		}
	}
	return o
}

// draw returns the order of one call: tier by tier, and within a tier by chance and
// weight, or by the session if there is one. All targets are in it, since a call must
// know where to go when the first ones fail. random returns numbers from 0 to below 1.
// The caller must not write to the result, which other calls may share.
func (o *orderer) draw(session string, random func() float64) []uint8 {
	if o.fixed != nil {
		return o.fixed
	}
	order := make([]uint8, 0, len(o.names))
	var keys [maxTargets]float64
	for _, tier := range o.tiers {
		from := len(order)
		for _, i := range tier {
			keys[i] = o.key(i, session, random)
			order = append(order, uint8(i))
		}
		slices.SortStableFunc(order[from:], func(a, b uint8) int {
			switch {
			case keys[a] < keys[b]:
				return -1
			case keys[a] > keys[b]:
				return 1
			}
			return 0
		})
	}
	return order
}

// key returns a number by which a tier is sorted, the least first. It is exponentially
// distributed with the target's share as its rate. The least of such numbers belongs
// to each target with the probability that its share asks for, and the same holds for
// the rest of the order.
// With a session the number depends on that and the target's name alone (rendezvous
// hashing). A target that goes then takes only its own sessions along, and gets them
// back when it returns.
func (o *orderer) key(i int, session string, random func() float64) float64 {
	u := random()
	if session != "" {
		u = hashed(session, o.names[i])
	}
	return -math.Log1p(-u) / o.share[i]
}

// hashed returns a number from 0 to below 1. It is the same in every process, because
// the calls of one session may come from many. That is why it has no random seed. The
// zero byte keeps ("a", "bc") apart from ("ab", "c").
func hashed(session, name string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(session))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(name))
	x := h.Sum64() // FNV's high bits are too alike for short texts: they are mixed as in splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}

// chance is the source of chance outside of tests. It needs no seed and no lock.
func chance() float64 { return rand.Float64() }
