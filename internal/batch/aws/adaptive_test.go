package aws

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

var errThrottled = errors.New("throttled")

// An adaptive is a RoundTripper that sends requests at the rate of the SDK's
// adaptive mode: a token bucket whose rate is cut at each 429, and grows as a cubic
// with each answer.
type adaptive struct {
	base http.RoundTripper
	mode *retry.AdaptiveMode
}

func newAdaptive(base http.RoundTripper) *adaptive {
	throttled := func(err error) aws.Ternary { return aws.BoolTernary(errors.Is(err, errThrottled)) }
	return &adaptive{base, retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.Throttles = append(o.Throttles, retry.IsErrorThrottleFunc(throttled))
	})}
}

// RoundTrip implements http.RoundTripper.
func (a *adaptive) RoundTrip(req *http.Request) (*http.Response, error) {
	release, err := a.mode.GetAttemptToken(slow{req.Context()}) //nolint:contextcheck // it is the request's
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	response, err := a.base.RoundTrip(req)
	if err == nil && response.StatusCode == http.StatusTooManyRequests {
		return response, release(errThrottled)
	}
	_ = release(err) // it returns what it is given, or nil
	return response, err
}

// A slow context takes a microsecond to look at. The SDK asks for its token again
// and again while less than a nanosecond is missing, which in virtual time would be
// for ever.
type slow struct{ context.Context }

// Done implements context.Context.
func (s slow) Done() <-chan struct{} {
	time.Sleep(time.Microsecond)
	return s.Context.Done()
}
