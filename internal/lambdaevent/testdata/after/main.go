// Command after is a function that asks REST_URL for something once its answer
// is out. It answers with how often that was done.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"eventhooks/internal/lambdaevent"
)

type answer struct {
	Name  string `json:"name"`
	Rests int    `json:"rests"`
}

func main() {
	rests := 0
	answering := func(_ context.Context, ev struct{ Name string }) (answer, error) {
		if ev.Name == "" {
			return answer{}, fmt.Errorf("no name")
		}
		return answer{ev.Name, rests}, nil
	}
	lambda.StartHandlerFunc(lambdaevent.After(answering, func() {
		resp, err := http.Get(os.Getenv("REST_URL"))
		if err == nil {
			_ = resp.Body.Close()
			rests++
		}
	}))
}
