package render_test

import (
	"testing"

	"eventhooks/internal/render"
)

func TestBody(t *testing.T) {
	got, err := render.Body("crud", "a<b", []byte(`{"event":"x", "n": 1.50, "source":{"deep":1}, "o":{"source":1}}`))
	if want := `{"source":"crud","event":"a<b","n":1.50,"o":{"source":1}}`; err != nil || string(got) != want {
		t.Errorf("Body = %s, %v; want %s", got, err, want)
	}
	if got, err := render.Body("crud", "a", []byte(`[1]`)); err == nil {
		t.Errorf("Body of an array = %s; want an error", got)
	}
}
