// Truth: main.main > main.outer > main.middle > main.leaf for the CPU time of one goroutine.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

//go:noinline
func leaf(rounds uint64) uint64 {
	x := rounds
	for i := uint64(0); i < rounds; i++ {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

//go:noinline
func middle(rounds uint64) uint64 { return leaf(rounds) + 1 }

//go:noinline
func outer(rounds uint64) uint64 { return middle(rounds) + 2 }

func seconds() float64 {
	if len(os.Args) < 2 {
		return 1
	}
	value, _ := strconv.ParseFloat(os.Args[1], 64)
	return value
}

func main() {
	end := time.Now().Add(time.Duration(seconds() * 1e9))
	var sum uint64
	fmt.Println("ready")
	for seconds() == 0 || time.Now().Before(end) {
		sum += outer(50000)
	}
	if sum == 42 {
		os.Exit(1)
	}
}
