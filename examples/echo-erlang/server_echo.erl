%% An echo server: one process per connection sends back what it gets.
-module(server_echo).
-export([start/0]).

-define(PORT, 2345).

start() ->
    io:format("SERVER Trying to bind to port ~p~n", [?PORT]),
    {ok, Listener} = gen_tcp:listen(?PORT, [binary, {packet, raw}, {active, false}, {reuseaddr, true}]),
    io:format("SERVER Listening on port ~p~n", [?PORT]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Server = spawn(fun() -> receive go -> serve(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Server),
    Server ! go,
    accept(Listener).

serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Bytes} ->
            io:format("SERVER Received: ~p~n", [Bytes]),
            ok = gen_tcp:send(Socket, Bytes),
            serve(Socket);
        {error, closed} ->
            io:format("SERVER: The client closed the connection~n")
    end.
