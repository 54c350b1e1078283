package openai

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// An orderer draws the order in which calls go to the targets.
type orderer struct {
	tiers [][]int // targets by tier, lower ones first; in one as they were configured
	fixed []uint8 // the order, if there is only one
	names []string
	share []float64 // of each target
}

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

// draw returns the order of one call: tier by tier, in each by chance and weight,
// or with a session by that. random returns numbers from 0 to below 1.
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

// key returns a number, the least of which comes first: an exponential one whose
// rate is the target's share, so that each is first as often as its share says.
// With a session it is made of that and the target's name alone (rendezvous
// hashing), so that a target that goes takes only its own sessions along.
func (o *orderer) key(i int, session string, random func() float64) float64 {
	u := random()
	if session != "" {
		u = hashed(session, o.names[i])
	}
	return -math.Log1p(-u) / o.share[i]
}

// hashed returns a number from 0 to below 1. It is the same in every process: calls
// of one session come from many.
func hashed(session, name string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(session))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(name))
	x := h.Sum64() // whose high bits are too alike for short texts: mixed as in splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}

// chance is the source of chance outside of tests.
func chance() float64 { return rand.Float64() }
