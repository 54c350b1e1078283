package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

const ms = time.Millisecond

// scenes returns all that is played.
func scenes() []scene {
	return slices.Concat(wellScenes(), restartScenes(), sheddingScenes(), http2Scenes(), cutScenes(), silenceScenes(), failoverScenes())
}

// Nothing goes wrong: what a proxy does to the time to the first token.
func wellScenes() []scene {
	well := func(name string, p proxy) scene {
		return scene{name: name, proxy: p, callers: 4, calls: 5, plan: asked(0, 15*ms)}
	}
	return []scene{
		well("no proxy", nil),
		well("HAProxy", haproxy{}),
		well("HAProxy: http-no-delay", haproxy{defaults: "option http-no-delay"}),
		well("nginx: buffering off", nginx{}),
		well("nginx: buffering on", nginx{buffered: true}),
		well("nginx: buffering on, HTTP/1.0", nginx{buffered: true, old: true}),
		well("nginx: gzip", nginx{http: "gzip on; gzip_min_length 1; gzip_types application/json text/event-stream;"}),
	}
}

// Eight slow calls are under way, and nothing of their answers is there yet.
func restartScenes() []scene {
	slow := func(name string, p proxy, happens incident) scene {
		return scene{name: name, proxy: p, callers: 8, calls: 3, plan: asked(400*ms, 0), happens: happens}
	}
	busy := func(name string, p proxy, happens incident) scene {
		return scene{name: name, proxy: p, callers: 16, calls: 20, plan: asked(10*ms, 2*ms), happens: happens}
	}
	return []scene{
		slow("the provider restarts", nil, restartProvider),
		slow("the provider restarts behind nginx", nginx{}, restartProvider),
		slow("the provider restarts behind HAProxy", haproxy{}, restartProvider),
		slow("nginx restarts", nginx{}, restartProxy),
		slow("HAProxy restarts", haproxy{}, restartProxy),
		busy("nginx reloads", nginx{}, reloadProxy),
		busy("HAProxy reloads", haproxy{}, reloadProxy),
	}
}

// More is asked for than there is.
func sheddingScenes() []scene {
	return []scene{
		{
			name: "HAProxy: maxconn 4, timeout queue 100ms", proxy: haproxy{defaults: "timeout queue 100ms", server: "maxconn 4"},
			callers: 16, calls: 8, plan: asked(50*ms, 0),
		},
		limited("nginx: limit_req, 503", ""),
		limited("nginx: limit_req, 429", "limit_req_status 429;"),
		{
			name: "30 % 503", callers: 32, calls: 5,
			plan: func(n int) plan {
				p := asked(0, 0)(n)
				random := rand.New(rand.NewPCG(1, uint64(n)))
				for range 4 {
					f := fault("")
					if random.IntN(10) < 3 {
						f = busy
					}
					p.Faults = append(p.Faults, f)
				}
				return p
			},
		},
	}
}

func limited(name, status string) scene {
	return scene{
		name:    name,
		proxy:   nginx{http: "limit_req_zone $server_addr zone=all:1m rate=60r/s; limit_req zone=all burst=10 nodelay; " + status},
		callers: 32, calls: 4, plan: asked(20*ms, 0),
	}
}

func http2Scenes() []scene {
	return []scene{
		{
			name: "HTTP/2: keepalive_requests 10 (GOAWAY)", proxy: nginx{server: "keepalive_requests 10;"}, http2: true,
			callers: 4, calls: 30, plan: asked(2*ms, 1*ms),
		},
		{
			name: "HTTP/2: four streams a connection", proxy: nginx{server: "http2_max_concurrent_streams 4;"}, http2: true,
			callers: 16, calls: 10, plan: asked(5*ms, 2*ms),
		},
	}
}

// The provider's connection ends.
func cutScenes() []scene {
	var all []scene
	for _, row := range []struct {
		name  string
		proxy proxy
		http2 bool
	}{
		{"HTTP/1.0 behind nginx", nginx{old: true}, false},
		{"HTTP/1.1 behind nginx", nginx{}, false},
		{"HTTP/1.1 behind nginx, gzip", nginx{http: "gzip on; gzip_min_length 1; gzip_types application/json text/event-stream;"}, false},
		{"HTTP/2 behind HAProxy", haproxy{server: "proto h2"}, true},
	} {
		for _, f := range []fault{closed, cut} {
			where := map[fault]string{closed: "before the answer", cut: "amid the answer"}[f]
			all = append(all, scene{name: row.name + ": cut " + where, proxy: row.proxy, http2: row.http2, callers: 8, calls: 5, plan: failing(f)})
		}
	}
	return append(all, scene{
		name: "nginx: error_page 502 =200", callers: 8, calls: 5, plan: failing(closed),
		proxy: nginx{server: `error_page 502 =200 /sorry; location = /sorry { default_type text/html; return 200 "<html>sorry</html>"; }`},
	})
}

// The provider falls silent, and somebody loses his patience.
func silenceScenes() []scene {
	impatient := []struct {
		name string
		proxy
	}{
		{"nginx: proxy_read_timeout 300ms", nginx{location: "proxy_read_timeout 300ms;"}},
		{"HAProxy: timeout server 300ms", haproxy{defaults: "timeout server 300ms"}},
	}
	var all []scene
	for _, p := range impatient {
		all = append(all,
			scene{name: p.name + ", before the answer", proxy: p.proxy, callers: 8, calls: 5, plan: failing(frozen)},
			scene{name: p.name + ", amid the answer", proxy: p.proxy, callers: 8, calls: 5, plan: failing(silent)},
			scene{name: p.name + ", the provider freezes for 700 ms", proxy: p.proxy, callers: 8, calls: 10, plan: asked(50*ms, 0), happens: freezeProvider},
		)
	}
	return all
}

// asked are calls, every other of them for a stream.
func asked(delay, pace time.Duration) func(int) plan {
	return func(n int) plan {
		return plan{
			Model: "m", Stream: n%2 == 1, Messages: []message{{"user", "hi"}},
			Call: n, Delay: delay, Pace: pace,
		}
	}
}

// failing are calls of which an eighth fails once, and an eighth twice: always
// two of eight that follow each other, objects and streams alike.
func failing(f fault) func(int) plan {
	return func(n int) plan {
		p := asked(0, 2*ms)(n)
		switch (n + 8 - n/8*3%8) % 8 {
		case 0:
			p.Faults = []fault{f}
		case 1:
			p.Faults = []fault{f, f}
		}
		return p
	}
}
