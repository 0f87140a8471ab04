package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"eventhooks/internal/awstest"
	"eventhooks/internal/goldentest"
	"eventhooks/internal/hook"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/local"
	"eventhooks/internal/retry"
	"eventhooks/internal/stack"
)

// The conversations: those of Kong's documentation, and those about what goes
// beyond. Package goldentest says how they are written. Each is held with the
// system on this machine, and with the built functions.
const (
	kongs = "testdata/kong/*.txt"
	ours  = "testdata/own/*.txt"
)

// soonAgain are the waits between attempts while conversations are played.
var soonAgain = retry.Schedule{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond}

func TestConversations(t *testing.T) {
	for name, pattern := range map[string]string{"kong": kongs, "own": ours} {
		t.Run(name, func(t *testing.T) {
			goldentest.Run(t, pattern, func(t *testing.T) goldentest.Server {
				t.Parallel()
				return start(t, local.Options{Schedule: soonAgain}).server()
			})
		})
	}
}

// Kong's conversations with the built functions.
func TestLambda_conversations(t *testing.T) {
	awstest.DynamoDB(t) // builds are slow: not when there is no server
	j := newJudge()
	converse(t, kongs, binaries(t, forTheTest), j)
	j.denied(t)
}

// tokens are the variables that hold the tokens' values; mint makes one of the
// body.
func tokens(admin string, mint func(body string) map[string]any) map[string]string {
	vars := map[string]string{"admin_token": admin}
	for _, scope := range []string{hook.ScopeRead, hook.ScopeIngest} {
		vars[scope+"_token"] = mint(fmt.Sprintf(`{"name":%q,"scopes":[%q]}`, scope, scope))["token"].(string)
	}
	return vars
}

// converse plays the conversations to the functions: each to a deployment of
// its own, all under the eyes of one judge.
func converse(t *testing.T, pattern string, binaries map[string]string, j *judge) {
	goldentest.Run(t, pattern, func(t *testing.T) goldentest.Server {
		c := launch(t, "golden", binaries, map[string]string{"RetrySchedule": "1s,1s,1s"}, j)
		c.mint()
		return c.server()
	})
}

// server is the local system for whom it is all the same which one it is.
func (w *world) server() goldentest.Server {
	return goldentest.Server{
		Do: http.DefaultClient.Do, URL: w.url,
		Vars: tokens(w.token, func(body string) map[string]any { return w.call("POST", "/tokens", body, http.StatusCreated) }),
	}
}

// server is the deployment for whom it is all the same which one it is.
func (c *cloud) server() goldentest.Server {
	return goldentest.Server{
		Do: goldentest.Handler(c.front()), URL: "http://api.example.test",
		Vars: tokens(c.token, func(body string) map[string]any { return c.http("admin", "POST", "/tokens", body, http.StatusCreated) }),
		Work: func() { c.poll() },
	}
}

// front is the HTTP API: each request goes to the function whose route it
// takes.
func (c *cloud) front() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		function := "admin"
		for _, f := range c.stack.Functions {
			for _, route := range f.Routes {
				if takes(route, r) {
					function = f.Name
				}
			}
		}
		lambdaevent.Front(func(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (resp events.APIGatewayV2HTTPResponse, err error) {
			raw, err := json.Marshal(ev)
			if err != nil {
				return resp, err
			}
			out, err := c.functions[function].Invoke(ctx, raw)
			if err != nil {
				return resp, err
			}
			return resp, json.Unmarshal(out, &resp)
		}, 0).ServeHTTP(w, r)
	})
}

// takes reports whether a route of the API, other than $default, is that of a
// request.
func takes(route stack.Route, r *http.Request) bool {
	want, path := strings.Split(route.Path, "/"), strings.Split(r.URL.EscapedPath(), "/")
	if route.Path == "" || route.Method != r.Method || len(want) != len(path) {
		return false
	}
	for i := range want {
		if !strings.HasPrefix(want[i], "{") && want[i] != path[i] {
			return false
		}
	}
	return true
}
