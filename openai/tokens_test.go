package openai_test

import (
	"net/http"
	"testing"

	"github.com/retrip-go/retrip/openai"
)

func TestEachKindOfTokenIsCounted(t *testing.T) {
	t.Parallel()
	const usage = "gen_ai.client.inference.usage."
	kinds := []string{"input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens", "reasoning.output_tokens"}
	for name, row := range map[string]struct {
		usage string
		want  [5]float64
	}{
		"chat":      {`{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}`, [5]float64{9, 7, 4, 0, 3}},
		"responses": {`{"input_tokens":9,"output_tokens":7,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":3}}`, [5]float64{9, 7, 4, 0, 3}},
		"messages":  {`{"input_tokens":9,"output_tokens":7,"cache_read_input_tokens":4,"cache_creation_input_tokens":2}`, [5]float64{9, 7, 4, 2, 0}},
		"input":     {`{"prompt_tokens":9}`, [5]float64{9}},
		"nothing":   {`null`, [5]float64{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader, provider := newReader()
			tr := newChain(t, answers(reply(200, `{"model":"m-1","choices":[],"usage":`+row.usage+`}`)), openai.Config{MeterProvider: provider})
			do(t, tr, ask(t, t.Context(), "m"))
			data := collect(t, reader)
			for i, kind := range kinds {
				series := data.with(usage+kind, "gen_ai.request.model", "m", "gen_ai.response.model", "m-1")
				if got := data.sum(usage + kind); got != row.want[i] || len(series) != int(min(got, 1)) {
					t.Errorf("%v %s, want %v, in %+v", got, kind, row.want[i], series)
				}
			}
			for i, kind := range kinds[:2] {
				one := "gen_ai.client.inference.operation." + kind
				if got := data.sum(one); got != row.want[i] || data.count(one) != uint64(min(got, 1)) {
					t.Errorf("%v %s of one, want %v", got, kind, row.want[i])
				}
			}
		})
	}
}

func TestWhatIsNoInferenceHasADurationOfItsOwn(t *testing.T) {
	t.Parallel()
	for path, inference := range map[string]bool{
		"chat/completions": true, "completions": true, "responses": true,
		"embeddings": false, "moderations": false, "files": false, "elsewhere": false,
	} {
		reader, provider := newReader()
		tr := newChain(t, answers(reply(200, `{}`)), openai.Config{MeterProvider: provider})
		do(t, tr, request(t, t.Context(), http.MethodPost, "https://api.example.com/v1/"+path, hello))
		data := collect(t, reader)
		of := map[bool]uint64{true: data.count(inferenceDuration), false: data.count("gen_ai.client.operation.duration")}
		if of[inference] != 1 || of[!inference] != 0 {
			t.Errorf("%s: %d inferences, %d other operations", path, of[true], of[false])
		}
	}
}
