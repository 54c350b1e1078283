package storm
import ("testing";"fmt";"time";"strings")
func TestPhase(t *testing.T) {
	for _, r := range rows() {
		if !strings.Contains(r.incident.name, "collapse") || strings.Contains(r.name, "naive") || r.proof || r.misses != nil { continue }
		var all time.Duration
		line := ""
		for l := 15; l <= 29; l++ {
			in := r.incident
			in.lasts = time.Duration(l)*time.Second
			small.place(&in)
			var rec time.Duration
			for s := range uint64(2) {
				seed = s
				f := simulate(t, in, r.fleet, small.clients)
				rec += f.recovery/2
			}
			all += rec/15
			line += fmt.Sprintf(" %.1f", rec.Seconds())
		}
		fmt.Printf("%-16s %-36s %5.1f: %s\n", r.incident.name, r.name, all.Seconds(), line)
	}
}
