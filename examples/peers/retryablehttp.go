package main

import (
	"context"
	"net/http"

	"github.com/hashicorp/go-retryablehttp"
)

const retryablehttpModule = "github.com/hashicorp/go-retryablehttp"

// retryablehttpTransport is go-retryablehttp's own RoundTripper. Its policy is
// told of 408 and of the breaker's refusals; it returns the last response
// instead of an error, and leaves redirects to the http.Client above it.
func retryablehttpTransport(base http.RoundTripper, s settings) http.RoundTripper {
	client := retryablehttp.NewClient()
	client.HTTPClient = &http.Client{
		Transport:     base,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client.Logger = nil
	client.RetryMax = attempts - 1
	client.RetryWaitMin, client.RetryWaitMax = s.firstWait(), s.longestWait()
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	client.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		switch {
		case isOpen(err):
			return false, nil // the refusal is passed on; an error here would replace it
		case resp != nil && resp.StatusCode == http.StatusRequestTimeout && ctx.Err() == nil:
			return true, nil
		}
		return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	}
	return &retryablehttp.RoundTripper{Client: client}
}
