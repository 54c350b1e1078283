package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
)

// portkey is the script of Portkey's gateway, a proxy that Node runs.
type portkey string

func (p portkey) command(ctx context.Context, _, address, _, _ string) (*exec.Cmd, error) {
	_, port, _ := strings.Cut(address, ":")
	return exec.CommandContext(ctx, "node", string(p), "--headless", "--port="+port), nil
}

func (portkey) reloading() syscall.Signal { return 0 }

// TestNoCallFailsWithAGatewayAsOneOfTwoTargets needs Portkey's gateway:
//
//	npm install --prefix DIR @portkey-ai/gateway
//	PORTKEY_GATEWAY=DIR/node_modules/@portkey-ai/gateway/build/start-server.js go test -C examples/proxies -run Gateway -v
func TestNoCallFailsWithAGatewayAsOneOfTwoTargets(t *testing.T) {
	t.Parallel()
	script := os.Getenv("PORTKEY_GATEWAY")
	if script == "" || !installed(t) {
		t.Log("not run: PORTKEY_GATEWAY does not name the gateway's script")
		return
	}
	for name, happens := range map[string]incident{
		"all is well":            func(context.Context, *rig) error { return nil },
		"its provider is killed": killProvider,
		"its provider freezes":   stopProvider,
		"it restarts":            restartProxy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			gateway, err := newRig(ctx, &scene{proxy: portkey(script)}, homeKey)
			defer gateway.close()
			if err != nil {
				t.Fatal(err)
			}
			second, err := newRig(ctx, &scene{proxy: nginx{}}, secondKey)
			defer second.close()
			if err != nil {
				t.Fatal(err)
			}
			cfg := withSecond(second.url())
			cfg.Targets[0] = retrip.Target{Name: "gateway", BaseURL: gateway.url() + "/v1", Header: http.Header{
				"Authorization":         {"Bearer " + homeKey},
				"X-Portkey-Provider":    {"openai"},
				"X-Portkey-Custom-Host": {"http://" + gateway.upstream + "/v1"},
			}}
			c := newCaller(pairing{chain: true}, gateway.url(), nil, cfg)
			defer c.end()
			var happened error
			var all sync.WaitGroup
			all.Go(func() { happened = happens(ctx, gateway) })
			outcomes := c.crowd(ctx, 8, 40, asked(0, 10*ms))
			all.Wait()
			if happened != nil {
				t.Error(happened)
			}
			sum := summed(c.pairing, outcomes, c.sent.Load())
			t.Logf("%d of %d calls answered by %d requests", sum.answered, sum.calls, sum.requests)
			if sum.answered != sum.calls {
				t.Errorf("%d of %d calls answered", sum.answered, sum.calls)
			}
		})
	}
}
