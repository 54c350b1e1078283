package retry_test

import (
	"net/http"
	"testing"

	"github.com/retrip-go/retrip/internal/contract"
	"github.com/retrip-go/retrip/retry"
)

func TestContract(t *testing.T) {
	t.Parallel()
	contract.Test(t, func(base http.RoundTripper) http.RoundTripper {
		return retry.NewTransport(base, retry.Config{})
	}, contract.Buffers)
}
