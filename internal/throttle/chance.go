package throttle

import "math"

const (
	// A rate is low until it has gone this part of its way back after a cut. At such
	// rates nobody is refused who draws on the limit alone.
	low = 0.4

	// usual is the share of refusals by chance for which inARowByChance is made.
	usual = 0.05

	// From fewer calls than enough nothing is learned of chance. No more than
	// mostChance is taken for it: where more is refused, others may draw on the limit,
	// too. If all of them ascribed it to chance, none would back off.
	enough     = 20
	mostChance = 0.13

	// The share that is taken for chance grows by no more from one cut to the next.
	// Among processes that share a limit it would grow with the rates of all.
	chanceGrowth = 1.1
	chanceStep   = 0.005
)

// A chance tells refusals for the rate from those that come whatever the rate
// is: of a provider that is overloaded, or of an account that others fill. The
// latter come at low rates, too.
type chance struct {
	low, high count   // of what was sent at low rates lately, and at others since the last cut
	known     bool    // there was enough at some cut
	least     float64 // then the share that was refused by chance, or less
}

// A count is how many calls were sent, and how many of them refused.
type count struct{ sent, refused float64 }

func (c *count) share() float64 { return c.refused / max(c.sent, 1) }

func (c *count) halve() { *c = count{c.sent / 2, c.refused / 2} }

func (c *chance) of(isLow bool) *count {
	if isLow {
		return &c.low
	}
	return &c.high
}

// sent counts a call that is let go.
func (c *chance) sent(isLow bool) { c.of(isLow).sent++ }

// refused counts a refusal, and reports whether there are more of them than chance
// explains. At low rates every refusal is taken for chance.
func (c *chance) refused(isLow bool) bool {
	c.of(isLow).refused++
	if isLow {
		return false
	}
	expected := c.share() * c.high.sent
	return c.high.refused > 1.3*expected+2*math.Sqrt(expected)
}

// share returns the share of the calls that are refused by chance, as far as is
// known.
func (c *chance) share() float64 {
	if c.low.sent < enough || c.low.refused < 2 {
		return 0
	}
	return min(c.seen(), mostChance)
}

// seen returns the share of refusals at low rates, as far as it may have grown since
// the last cut.
func (c *chance) seen() float64 {
	share := c.low.share()
	if c.known {
		share = min(share, c.least*chanceGrowth+chanceStep)
	}
	return share
}

// patience returns by how much longer a row of refusals has to be for it to say
// that nothing is admitted: some are in a row by chance.
func (c *chance) patience() float64 {
	return math.Log(usual) / math.Log(max(c.share(), usual))
}

// begin begins to count anew after a cut. What was seen at low rates counts less
// from cut to cut.
func (c *chance) begin() {
	kept := 0.7 // until there is enough
	if c.low.sent >= enough {
		c.least, c.known = c.seen(), true
		kept = 0.5
	}
	c.low, c.high = count{c.low.sent * kept, c.low.refused * kept}, count{}
}
