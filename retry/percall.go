package retry

import "context"

type maxAttemptsKey struct{}

// WithMaxAttempts overrides [Config.MaxAttempts] for the calls made with the
// returned context. Each of them sends n requests at most, so that 1 turns retries off.
// An n below 1 changes nothing. It is for the call that differs from the others of its
// Transport: one that must not be repeated, or one that is worth more patience.
func WithMaxAttempts(ctx context.Context, n int) context.Context {
	if n < 1 {
		return ctx
	}
	return context.WithValue(ctx, maxAttemptsKey{}, n)
}

// maxAttempts returns the limit of a call: the context's, else the configured one.
func maxAttempts(ctx context.Context, configured int) int {
	if n, ok := ctx.Value(maxAttemptsKey{}).(int); ok {
		return n
	}
	return configured
}
