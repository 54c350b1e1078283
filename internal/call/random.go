package call

import (
	"context"
	"math/rand/v2"
)

type randomKey struct{}

// WithRandom returns a context whose calls draw what they leave to chance from
// random, which returns numbers in [0, 1) and may be called by many at a time. A
// simulation that is to repeat itself needs that.
func WithRandom(ctx context.Context, random func() float64) context.Context {
	return context.WithValue(ctx, randomKey{}, random)
}

// Random returns what the calls of ctx draw from: by default the source that a
// process has anyway.
func Random(ctx context.Context) func() float64 {
	if random, ok := ctx.Value(randomKey{}).(func() float64); ok {
		return random
	}
	return rand.Float64
}
