package action_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"eventhooks/internal/action"
	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
)

func TestMain(m *testing.M) {
	lua.RunIfChild()
	os.Exit(m.Run())
}

func lambda(functions ...string) hook.Hook {
	return hook.Hook{ID: "c57340ab-9fed-40fd-bb7e-1cef8d37c2df", Handler: hook.HandlerLambda, Enabled: true, Changed: 1, Config: hook.Config{Functions: functions}}
}

func newLuaRunner(t testing.TB, size int) *action.Runner {
	t.Helper()
	pool := lua.NewPool(lua.Options{Size: size})
	t.Cleanup(pool.Close)
	return action.New(action.Options{Lua: pool, PID: 7})
}

func TestDo_lambda(t *testing.T) {
	r := newLuaRunner(t, 1)
	for _, c := range []struct {
		name, function string
		want           hook.Outcome
	}{
		{
			"success", "return function(data, event, source, pid) return data.health == 'unhealthy' and event == 'health' and source == 'balancer' and pid == 7 end",
			hook.Outcome{Verdict: hook.Success},
		},
		{
			"numbers beyond what Lua holds are text", "return function(data) return data.big == '12345678901234567890' and data.f == 1.5 end",
			hook.Outcome{Verdict: hook.Success},
		},
		{
			"not true", "return function() kong.log.err('no') return 1 end",
			hook.Outcome{Error: "function 1 returned a number", Log: []hook.LogLine{{Level: "err", Message: "no"}}},
		},
		{"an error", "return function()\nerror('bad') end", hook.Outcome{Error: "function 1: line 2: bad"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := r.Do(t.Context(), lambda(c.function), healthEvent, now)
			if out.Took <= 0 || out.Took > time.Second {
				t.Errorf("Took = %v", out.Took)
			}
			if diff := cmp.Diff(c.want, out, cmpopts.IgnoreFields(hook.Outcome{}, "Took")); diff != "" {
				t.Errorf("Do (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDo_lambdaThatDoesNotEnd(t *testing.T) {
	r := newLuaRunner(t, 1)
	out := r.Do(t.Context(), lambda("return function() while true do end end"), healthEvent, now)
	if out.Verdict != hook.Retryable || out.Error != "used more than 1 s of CPU" && out.Error != "took more than 3 s" {
		t.Errorf("Do = %+v; want a retryable failure", out)
	}
	r.Do(t.Context(), lambda("return function() return true end"), healthEvent, now) // a child waits
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	out = r.Do(ctx, lambda("return function() while true do end end"), healthEvent, now)
	if out.Verdict != hook.Retryable || !strings.HasPrefix(out.Error, "cut off") {
		t.Errorf("Do = %+v; want a retryable failure", out)
	}
	out = r.Do(ctx, lambda("return function() return true end"), healthEvent, now)
	if out.Verdict != hook.Unmade || out.Error != "not run: no process was free to run it in time" || out.Took != 0 {
		t.Errorf("Do = %+v; want an attempt that was not made", out)
	}
}

func TestDo_lambdaWithoutAPool(t *testing.T) {
	out := action.New(action.Options{}).Do(t.Context(), lambda("return function() return true end"), healthEvent, now)
	if out.Verdict != hook.Retryable || out.Error == "" {
		t.Errorf("Do = %+v; want a retryable failure", out)
	}
}

func TestRequest_lambda(t *testing.T) {
	h := lambda("return function() return true end")
	if req, err := newRunner(t, nil).Request(h, healthEvent, now); err == nil || !strings.Contains(err.Error(), "makes no request") {
		t.Errorf("Request = %+v, %v; want an error", req, err)
	}
}
