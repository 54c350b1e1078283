package storm
import ("testing";"fmt";"time";"os";"strings")
func TestSeeds(t *testing.T) {
	var sc = small
	if *full { sc = large }
	for _, r := range rows() {
		if !strings.Contains(r.name, "retrip") && !strings.Contains(r.name, "Attempt") || !strings.Contains(r.incident.name, os.Getenv("INC")) { continue }
		sc.place(&r.incident)
		var rec, worst time.Duration; var share, amp float64; n:=0; again := 0
		for s := range uint64(10) {
			seed = s
			f := simulate(t, r.incident, r.fleet, sc.clients)
			if f.recovered { rec += f.recovery; worst = max(worst, f.recovery); n++ }
			share += f.during.share(); amp += f.during.amplification()
			if f.again { again++ }
		}
		fmt.Printf("%-22s %-36s rec mean %5.1f worst %5.1f of %d answered %.2f amp %.2f again %d\n", r.incident.name, r.name, rec.Seconds()/float64(max(n,1)), worst.Seconds(), n, share*10, amp/10, again)
	}
}
