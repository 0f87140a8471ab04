package lambdaevent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-lambda-go/events"
)

// Admin returns a Lambda handler for the admin function. An HTTP API event is
// answered by h, as HTTP says. A direct invoke {"create_token":{...}} is handed
// to mint: the object, and what mint returns is the invocation's result. Any
// other event is an error.
//
// Who may invoke the function directly is IAM's decision. No HTTP client can
// make its request look like a direct invoke: API Gateway writes the event's
// own keys, the client only values inside them.
func Admin(h http.Handler, mint func(ctx context.Context, create json.RawMessage) (any, error)) func(context.Context, json.RawMessage) (any, error) {
	serveHTTP := HTTP(h)
	return func(ctx context.Context, raw json.RawMessage) (_ any, err error) {
		defer recovered(ctx, &err)
		var kind struct {
			RequestContext *struct{}       `json:"requestContext"`
			CreateToken    json.RawMessage `json:"create_token"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, fmt.Errorf("read event: %w", err)
		}
		switch {
		case kind.RequestContext != nil:
			var ev events.APIGatewayV2HTTPRequest
			if err := json.Unmarshal(raw, &ev); err != nil {
				return nil, fmt.Errorf("read API Gateway event: %w", err)
			}
			return serveHTTP(ctx, ev)
		case len(kind.CreateToken) > 0 && kind.CreateToken[0] == '{':
			return mint(ctx, kind.CreateToken)
		}
		return nil, errors.New(`event is neither an HTTP request nor {"create_token":{...}}`)
	}
}
