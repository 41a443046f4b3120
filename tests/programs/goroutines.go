// Truth: eight goroutines, each runtime.goexit > main.worker > main.workerLeaf, pass the work on through channels, so that the
// runtime's scheduler switches stacks all the time.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

//go:noinline
func workerLeaf(rounds uint64) uint64 {
	x := rounds
	for i := uint64(0); i < rounds; i++ {
		x = x*6364136223846793005 + 1
	}
	return x
}

//go:noinline
func worker(work <-chan uint64, done *sync.WaitGroup) {
	defer done.Done()
	for rounds := range work {
		workerLeaf(rounds)
	}
}

func main() {
	seconds := 1.0
	if len(os.Args) > 1 {
		seconds, _ = strconv.ParseFloat(os.Args[1], 64)
	}
	end := time.Now().Add(time.Duration(seconds * 1e9))
	work := make(chan uint64)
	var done sync.WaitGroup
	for i := 0; i < 8; i++ {
		done.Add(1)
		go worker(work, &done)
	}
	fmt.Println("ready")
	for seconds == 0 || time.Now().Before(end) {
		work <- 50000
	}
	close(work)
	done.Wait()
}
