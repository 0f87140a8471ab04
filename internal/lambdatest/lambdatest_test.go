package lambdatest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/lambdatest"
)

func TestFunction(t *testing.T) {
	bin := lambdatest.Build(t, "./testdata/probe")
	function := func(t *testing.T, o lambdatest.Options) *lambdatest.Function {
		t.Helper()
		o.Binary = bin
		return lambdatest.New(t, o)
	}
	invoke := func(t *testing.T, f *lambdatest.Function, do, name string) (any, error) {
		t.Helper()
		raw, err := f.Invoke(t.Context(), fmt.Appendf(nil, `{"do":%q,"name":%q}`, do, name))
		if err != nil {
			return nil, err
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("answer to %s = %q: %v", do, raw, err)
		}
		return v, nil
	}

	t.Run("an event gets its answer, and the process is kept for the next", func(t *testing.T) {
		f := function(t, lambdatest.Options{})
		first, err := invoke(t, f, "pid", "")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if again, err := invoke(t, f, "pid", ""); err != nil || again != first {
				t.Errorf("pid = %v, %v; want %v again", again, err, first)
			}
		}
		if starts := f.Starts(); len(starts) != 1 || starts[0] <= 0 || starts[0] > 10*time.Second {
			t.Errorf("starts = %v; want one", starts)
		}
		if !strings.Contains(f.Output(), "started") {
			t.Errorf("output = %q; want what the process wrote", f.Output())
		}
	})
	t.Run("events at once have a process each", func(t *testing.T) {
		f := function(t, lambdatest.Options{})
		go_ := filepath.Join(t.TempDir(), "go")
		pids := make(chan any, 2)
		for range 2 {
			go func() {
				pid, err := invoke(t, f, "wait", go_)
				if err != nil {
					pid = err
				}
				pids <- pid
			}()
		}
		for len(f.Starts()) < 2 { // both are in flight once both have started
			select {
			case <-t.Context().Done():
				t.Fatal("two events did not start two processes")
			case <-time.After(time.Millisecond):
			}
		}
		if err := os.WriteFile(go_, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if a, b := <-pids, <-pids; a == b {
			t.Errorf("pids = %v, %v; want two processes", a, b)
		}
	})
	t.Run("the environment is Lambda's and the function's, nothing else", func(t *testing.T) {
		t.Setenv("FROM_THE_TEST", "1")
		f := function(t, lambdatest.Options{Name: "deliver", MemoryMB: 256, Env: map[string]string{"CONFIG_TABLE": "c", "AWS_REGION": "eu-central-1"}})
		for name, want := range map[string]string{
			"CONFIG_TABLE": "c", "AWS_REGION": "eu-central-1", "AWS_LAMBDA_FUNCTION_NAME": "deliver",
			"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "FROM_THE_TEST": "", "HOME": "",
		} {
			if got, err := invoke(t, f, "env", name); err != nil || got != want {
				t.Errorf("%s = %v, %v; want %q", name, got, err, want)
			}
		}
	})
	t.Run("the process knows its deadline and its request", func(t *testing.T) {
		f := function(t, lambdatest.Options{Timeout: 30 * time.Second})
		left, err := invoke(t, f, "deadline", "")
		if ms, ok := left.(float64); err != nil || !ok || ms <= 0 || ms > 30_000 {
			t.Errorf("time left = %v, %v; want up to 30 s", left, err)
		}
		a, _ := invoke(t, f, "request", "")
		if b, err := invoke(t, f, "request", ""); err != nil || a == b {
			t.Errorf("request ids = %v, %v, %v; want two", a, b, err)
		}
	})
	t.Run("an error of the function is told, and the process lives on", func(t *testing.T) {
		f := function(t, lambdatest.Options{})
		_, err := invoke(t, f, "error", "")
		if fe, ok := errors.AsType[*lambdatest.FunctionError](err); !ok || fe.Message != "no luck" || fe.Type != "errorString" {
			t.Errorf("error = %v; want no luck", err)
		}
		if _, err := invoke(t, f, "pid", ""); err != nil || len(f.Starts()) != 1 {
			t.Errorf("next event: %v, %d starts; want the same process", err, len(f.Starts()))
		}
	})
	t.Run("a panic is told, and the next event is a new process", func(t *testing.T) {
		f := function(t, lambdatest.Options{})
		_, err := invoke(t, f, "panic", "")
		if fe, ok := errors.AsType[*lambdatest.FunctionError](err); !ok || fe.Message != "oh" {
			t.Errorf("error = %v; want oh", err)
		}
		if _, err := invoke(t, f, "pid", ""); err != nil || len(f.Starts()) != 2 {
			t.Errorf("next event: %v, %d starts; want a second process", err, len(f.Starts()))
		}
	})
	t.Run("a process that ends fails its event", func(t *testing.T) {
		f := function(t, lambdatest.Options{})
		if _, err := invoke(t, f, "exit", ""); !errors.Is(err, lambdatest.ErrExit) || !strings.Contains(err.Error(), "3") {
			t.Errorf("error = %v; want ErrExit with status 3", err)
		}
		if _, err := invoke(t, f, "pid", ""); err != nil {
			t.Errorf("next event: %v", err)
		}
	})
	t.Run("an event that takes too long has its process killed", func(t *testing.T) {
		f := function(t, lambdatest.Options{Timeout: 50 * time.Millisecond})
		if _, err := invoke(t, f, "hang", ""); !errors.Is(err, lambdatest.ErrTimeout) {
			t.Errorf("error = %v; want ErrTimeout", err)
		}
		f = function(t, lambdatest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := f.Start(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := f.Invoke(ctx, []byte(`{"do":"hang"}`)); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v; want that of the context", err)
		}
	})
	t.Run("a start that fails says why", func(t *testing.T) {
		f := function(t, lambdatest.Options{Env: map[string]string{"INIT": "exit"}})
		if _, err := f.Start(t.Context()); !errors.Is(err, lambdatest.ErrExit) {
			t.Errorf("error = %v; want ErrExit", err)
		}
		if !strings.Contains(f.Output(), "settings are missing") {
			t.Errorf("output = %q; want the reason", f.Output())
		}
		f = function(t, lambdatest.Options{Env: map[string]string{"INIT": "hang"}, InitTimeout: 50 * time.Millisecond})
		if _, err := f.Start(t.Context()); !errors.Is(err, lambdatest.ErrTimeout) {
			t.Errorf("error = %v; want ErrTimeout", err)
		}
	})
	t.Run("killing ends every process, and the next event starts another", func(t *testing.T) {
		f := function(t, lambdatest.Options{})
		before, err := invoke(t, f, "pid", "") // and the process is idle
		if err != nil {
			t.Fatal(err)
		}
		f.Kill()
		if _, err := os.Stat(fmt.Sprintf("/proc/%.0f/exe", before)); err == nil {
			t.Errorf("process %v is still there", before)
		}
		after, err := invoke(t, f, "pid", "")
		if err != nil || after == before {
			t.Errorf("next event: process %v, %v; want another than %v", after, err, before)
		}
	})
	t.Run("closing ends every process, events in flight fail", func(t *testing.T) {
		f := function(t, lambdatest.Options{})
		pid, err := invoke(t, f, "pid", "")
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error)
		started := make(chan struct{})
		go func() {
			close(started)
			_, err := f.Invoke(context.WithoutCancel(t.Context()), []byte(`{"do":"hang"}`))
			failed <- err
		}()
		<-started
		f.Close()
		if err := <-failed; err == nil {
			t.Error("the event in flight did not fail")
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%.0f/exe", pid)); err == nil {
			t.Errorf("process %v is still there", pid)
		}
		if _, err := f.Invoke(t.Context(), []byte(`{}`)); err == nil {
			t.Error("a closed function was invoked")
		}
	})
}
