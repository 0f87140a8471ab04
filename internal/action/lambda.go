package action

import (
	"cmp"
	"context"
	"errors"
	"os"

	"eventhooks/internal/hook"
	"eventhooks/internal/lua"
)

// lambda runs the functions of a lambda hook. Waiting for a process to run them
// in, and running them, takes no longer than an attempt of a hook that calls
// somebody. Whatever is wrong may be right another time: a function may look at
// the clock, and a hook's functions can be mended while its deliveries wait.
func (r *Runner) lambda(ctx context.Context, h hook.Hook, ev hook.Event) hook.Outcome {
	ctx, cancel := context.WithTimeout(ctx, timeout(h))
	defer cancel()
	if r.o.Lua == nil {
		return hook.Outcome{Verdict: hook.Retryable, Error: "nothing here runs Lua functions"}
	}
	res, err := r.o.Lua.Run(ctx, lua.Call{
		Key: h.ID, Functions: h.Config.Functions,
		Data: ev.Data, Event: ev.Event, Source: ev.Source, PID: cmp.Or(r.o.PID, os.Getpid()),
	})
	out := hook.Outcome{Verdict: hook.Retryable, Took: res.Took, Log: res.Log, Error: res.Fault}
	switch {
	case errors.Is(err, lua.ErrBusy):
		out.Verdict, out.Error = hook.Unmade, "not run: "+err.Error()
	case err != nil:
		out.Error = err.Error()
	case res.Fault == "":
		out.Verdict = hook.Success
	}
	return out
}
