package fleet_test

import (
	"github.com/redis/go-redis/v9"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/breaker/fleet"
	retrip "github.com/retrip-go/retrip/openai"
)

func ExampleNewRedis() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"}) // that the service has already
	defer client.Close()

	shared := fleet.NewRedis(client, fleet.Config{}) // one for the process
	defer shared.Close()

	transport := retrip.NewTransport(nil, retrip.Config{Breaker: breaker.Config{Fleet: shared}})
	defer transport.Close() //nolint:errcheck // nobody collects metrics
}
