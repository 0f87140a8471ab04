package lambdaevent_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/lambdatest"
)

// By the real runtime: the answer is out before rest begins, and the next event
// comes after it has ended.
func TestAfter(t *testing.T) {
	began, end := make(chan struct{}, 3), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	f := lambdatest.New(t, lambdatest.Options{
		Binary: lambdatest.Build(t, "./testdata/after"), Name: "after", Env: map[string]string{"REST_URL": s.URL},
	})
	invoke := func(event, want string) {
		t.Helper()
		out, err := f.Invoke(t.Context(), []byte(event))
		if err != nil || string(out) != want {
			t.Errorf("Invoke(%s) = %s, %v; want %s", event, out, err, want)
		}
	}
	invoke(`{"name":"<a>"}`, `{"name":"<a>","rests":0}`)
	<-began // and it has not ended
	next := make(chan struct{})
	go func() {
		defer close(next)
		invoke(`{"name":"b"}`, `{"name":"b","rests":1}`)
	}()
	end <- struct{}{}
	<-next
	<-began
	end <- struct{}{}
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); err == nil {
		t.Error("an error of the handler is no error")
	}
	select {
	case <-began:
		t.Error("rest was called after an error")
	default:
	}
	if n := len(f.Starts()); n != 1 {
		t.Errorf("%d processes; want one for all", n)
	}
}

// What is answered is what the runtime would have made of it by itself.
func TestAfter_answers(t *testing.T) {
	type event struct{ N int }
	for name, h := range map[string]func(context.Context, event) (any, error){
		"an object": func(_ context.Context, ev event) (any, error) { return map[string]any{"n": ev.N, "html": "<&>"}, nil },
		"nothing":   func(context.Context, event) (any, error) { return nil, nil },
		"a text":    func(context.Context, event) (any, error) { return "ü\n", nil },
		"an error":  func(context.Context, event) (any, error) { return nil, errors.New("no luck") },
		"no JSON":   func(context.Context, event) (any, error) { return make(chan int), nil },
	} {
		t.Run(name, func(t *testing.T) {
			rests := 0
			want, wantErr := lambda.NewHandler(h).Invoke(t.Context(), []byte(`{"N":5}`))
			got, err := lambda.NewHandler(lambdaevent.After(h, func() { rests++ })).Invoke(t.Context(), []byte(`{"N":5}`))
			if string(got) != string(want) || (err == nil) != (wantErr == nil) {
				t.Errorf("answer = %q, %v; want %q, %v", got, err, want, wantErr)
			}
			if (rests == 1) != (err == nil) {
				t.Errorf("rest was called %d times after the error %v", rests, err)
			}
		})
	}
}
