package storm
import ("testing";"time";"fmt")
func TestOne(t *testing.T) {
	for seed := range uint64(10) {
		fmt.Println("seed", seed)
		trial{serve: random503(.3), send: loops(32, 20)}.play(t, seed, ours)
	}
	fmt.Println("sheds")
	trial{serve: sheds(), send: loops(16, 7)}.play(t, 1, ours)
	fmt.Println("queue")
	trial{serve: queue(4, 50*time.Millisecond, 100*time.Millisecond), send: loops(64, 7)}.play(t, 1, ours)
}
