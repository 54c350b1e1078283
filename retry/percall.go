package retry

import "context"

type maxAttemptsKey struct{}

// WithMaxAttempts overrides [Config.MaxAttempts] for the calls made with the
// returned context: n requests at most, so 1 turns retries off. An n below 1
// changes nothing.
func WithMaxAttempts(ctx context.Context, n int) context.Context {
	if n < 1 {
		return ctx
	}
	return context.WithValue(ctx, maxAttemptsKey{}, n)
}

func maxAttempts(ctx context.Context, configured int) int {
	if n, ok := ctx.Value(maxAttemptsKey{}).(int); ok {
		return n
	}
	return configured
}
