package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/retrip-go/retrip/breaker"
	"github.com/retrip-go/retrip/breaker/fleet"
	retrip "github.com/retrip-go/retrip/openai"
)

// replicaEnv names the process that this one is, if it is one of the three.
const replicaEnv = "FLEET_REPLICA"

func isReplica() bool { return os.Getenv(replicaEnv) != "" }

// replica calls the provider until it is interrupted. All that a service needs to
// be part of a fleet is in the first lines.
func replica() {
	client := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS")}) // the service's own
	defer client.Close()
	shared := fleet.NewRedis(client, fleet.Config{})
	defer shared.Close()
	transport := retrip.NewTransport(nil, retrip.Config{Breaker: breaker.Config{Fleet: shared, OnStateChange: say}})
	defer transport.Close() //nolint:errcheck // nobody collects metrics

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	name, every := os.Getenv(replicaEnv), time.Second
	if name == "A" {
		every = 100 * time.Millisecond
	}
	calls := time.NewTicker(every)
	defer calls.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-calls.C:
			go call(ctx, &http.Client{Transport: transport}, name)
		}
	}
}

func say(c breaker.StateChange) {
	why := map[string]string{
		"failures_in_a_row":    "its own calls fail",
		"failure_ratio":        "its own calls fail",
		"failure_after_advice": "another process said so, and its own next call failed",
		"advised_by_others":    "two others say so",
		"open_duration_over":   "one call may try",
		"probes_succeeded":     "that call succeeded",
		"probe_failed":         "that call failed",
	}[c.Reason]
	fmt.Printf("breaker is %s: %s\n", strings.ReplaceAll(c.To.String(), "_", " "), why)
}

func call(ctx context.Context, client *http.Client, name string) {
	payload := strings.NewReader(`{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hello!"}]}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("PROVIDER")+"/v1/chat/completions", payload)
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(replicaHeader, name)
	resp, err := client.Do(req)
	if err != nil {
		return // the provider's failure, or a refusal by the breaker
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}
