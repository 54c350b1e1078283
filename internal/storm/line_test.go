package storm
import ("testing";"fmt";"time";"strings"; "github.com/retrip-go/retrip/breaker"; "github.com/retrip-go/retrip/openai"; "github.com/retrip-go/retrip/retry")
func TestLine(t *testing.T) {
	for _, r := range rows() {
		if !strings.Contains(r.incident.name, "collapse") || strings.Contains(r.name, "naive") || r.proof || strings.Contains(r.name,"each") { continue }
		small.place(&r.incident)
		start := time.Time{}
		cfg := openai.Config{Breaker: breaker.Config{OnStateChange: func(c breaker.StateChange) { fmt.Printf("%.2f %v %s\n", (time.Since(start)-r.incident.from).Seconds(), c.To, c.Reason) }}}
		if strings.Contains(r.name,"Attempt") { cfg.Retry = retry.Config{AttemptTimeout: 5*time.Second} }
		fmt.Println(r.incident.name, r.name)
		start = time.Date(2000,1,1,0,0,0,0,time.UTC)
		f := simulate(t, r.incident, shared(cfg), small.clients)
		fmt.Println(f)
	}
}
