// Command probe is a Lambda function for the tests of package lambdatest: its
// event says what it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do   string `json:"do"`
	Name string `json:"name"`
}

func main() {
	fmt.Println("started")
	if os.Getenv("INIT") == "exit" {
		fmt.Println("settings are missing")
		os.Exit(1)
	}
	if os.Getenv("INIT") == "hang" {
		time.Sleep(time.Hour)
	}
	lambda.Start(handle)
}

func handle(ctx context.Context, ev event) (any, error) {
	switch ev.Do {
	case "env":
		return os.Getenv(ev.Name), nil
	case "pid":
		return os.Getpid(), nil
	case "deadline":
		end, _ := ctx.Deadline()
		return time.Until(end).Milliseconds(), nil
	case "request":
		lc, _ := lambdacontext.FromContext(ctx)
		return lc.AwsRequestID, nil
	case "error":
		return nil, errors.New("no luck")
	case "panic":
		panic("oh")
	case "exit":
		os.Exit(3)
	case "hang":
		select {}
	case "wait": // until a file is there
		for ctx.Err() == nil {
			if _, err := os.Stat(ev.Name); err == nil {
				return os.Getpid(), nil
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil, ctx.Err()
}
