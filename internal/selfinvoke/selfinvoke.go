// Package selfinvoke hands parts of a run to further processes of the Lambda
// function that runs: it invokes the function asynchronously.
package selfinvoke

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"

	"eventhooks/internal/awscall"
	"eventhooks/internal/hook"
	"eventhooks/internal/lambdaevent"
)

// Function is a Lambda function that can be invoked. It is safe for concurrent
// use.
type Function struct {
	lambda *awscall.Service
	path   string
}

// New returns the function of that name, in the configuration's region. suffix
// is what the names of AWS's hosts end in there, such as amazonaws.com; it does
// not matter when the configuration has an endpoint.
func New(config aws.Config, suffix, name string) *Function {
	return &Function{
		lambda: awscall.New(config, suffix, "lambda"),
		path:   "/2015-03-31/functions/" + url.PathEscape(name) + "/invocations",
	}
}

// Invoke asks for a process that runs healthprobe for a part of all upstreams,
// and returns nil once Lambda has promised one: not when it has run. It may have
// promised when there is an error, and twice when there is none.
func (f *Function) Invoke(ctx context.Context, part hook.UpstreamRange) error {
	_, err := f.lambda.Do(ctx, awscall.Request{
		Path:   f.path,
		Header: map[string]string{"Content-Type": "application/json", "X-Amz-Invocation-Type": "Event"},
		Body:   lambdaevent.ProbeEvent(part), Want: http.StatusAccepted,
	})
	if err != nil {
		return fmt.Errorf("invoke function: %w", err)
	}
	return nil
}
