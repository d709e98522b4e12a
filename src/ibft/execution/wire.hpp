// Calls as text, so that a function and its tests can be in two processes. Used by cpp_tests.py; put in front of both.
//
// Values: an integer is its digits and a space, a float its hexadecimal digits, a string its length, a colon and its
// bytes, a container its size and its elements. A frame (the arguments of a call, or its answer) is a string.
//
// The tests' side: `Remote` makes a function of the same type, whose calls are written to standard output and answered
// from standard input. A call with other arguments than the recorded ones is unanswered: it and all that follow return
// an empty value, and from then on nothing that the tests find counts.
// The answer's side: `serve` reads calls, makes them and writes what came back, arguments too, which may have changed.
#pragma once
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace ibft_wire {

// What the program itself prints goes to standard error.
inline int channel = [] {
    int number = dup(1);
    dup2(2, 1);
    return number;
}();

template <class T> struct is_optional : std::false_type {};
template <class T> struct is_optional<std::optional<T>> : std::true_type {};
template <class T> struct is_tuple : std::false_type {};
template <class... T> struct is_tuple<std::tuple<T...>> : std::true_type {};
template <class A, class B> struct is_tuple<std::pair<A, B>> : std::true_type {};
template <class T> struct element { using type = typename T::value_type; };
template <class K, class V> struct element<std::map<K, V>> { using type = std::pair<K, V>; };
template <class K, class V> struct element<std::unordered_map<K, V>> { using type = std::pair<K, V>; };
template <class T> struct is_array : std::false_type {};
template <class T, size_t N> struct is_array<std::array<T, N>> : std::true_type {};

inline void put_text(std::string& out, const std::string& text) { out += std::to_string(text.size()) + ':' + text; }

template <class T> void put(std::string& out, const T& value) {
    if constexpr (std::is_integral_v<T>) {
        out += std::to_string(value) + ' ';
    } else if constexpr (std::is_floating_point_v<T>) {
        char digits[64];
        snprintf(digits, sizeof digits, "%La ", static_cast<long double>(value));
        out += digits;
    } else if constexpr (std::is_same_v<T, std::string>) {
        put_text(out, value);
    } else if constexpr (is_optional<T>::value) {
        put(out, value.has_value());
        if (value) put(out, *value);
    } else if constexpr (is_tuple<T>::value) {
        std::apply([&](const auto&... part) { (put(out, part), ...); }, value);
    } else {
        put(out, value.size());
        for (const typename element<T>::type& part : value) put(out, part);
    }
}

// Reads values of text that may be anything at all.
class Reader {
  public:
    explicit Reader(std::string text) : text_(std::move(text)) {}
    bool is_at_end() const { return position_ >= text_.size(); }

    std::string word(char end) {
        size_t stop = text_.find(end, position_);
        if (stop == std::string::npos || stop - position_ > 64) fail();
        std::string found = text_.substr(position_, stop - position_);
        position_ = stop + 1;
        return found;
    }

    std::string text() {
        size_t size = strtoull(word(':').c_str(), nullptr, 10);
        if (size > text_.size() - position_) fail();
        position_ += size;
        return text_.substr(position_ - size, size);
    }

    template <class T> T get() {
        if constexpr (std::is_integral_v<T> && std::is_unsigned_v<T>) {
            return static_cast<T>(strtoull(word(' ').c_str(), nullptr, 10));
        } else if constexpr (std::is_integral_v<T>) {
            return static_cast<T>(strtoll(word(' ').c_str(), nullptr, 10));
        } else if constexpr (std::is_floating_point_v<T>) {
            return static_cast<T>(strtold(word(' ').c_str(), nullptr));
        } else if constexpr (std::is_same_v<T, std::string>) {
            return text();
        } else if constexpr (is_optional<T>::value) {
            return get<bool>() ? T(get<typename T::value_type>()) : T();
        } else if constexpr (is_tuple<T>::value) {
            T value;
            std::apply([&](auto&... part) { ((part = get<std::decay_t<decltype(part)>>()), ...); }, value);
            return value;
        } else if constexpr (is_array<T>::value) {
            T value{};
            if (get<size_t>() != value.size()) fail();
            for (auto& part : value) part = get<typename T::value_type>();
            return value;
        } else {
            T value;
            for (size_t left = get<size_t>(); left > 0; --left) value.insert(value.end(), get<typename element<T>::type>());
            return value;
        }
    }

  private:
    [[noreturn]] static void fail() {
        fputs("what came back is not a value of the function's type\n", stderr);
        _exit(1);
    }

    std::string text_;
    size_t position_ = 0;
};

inline Reader read_all() {
    std::string text;
    char part[1 << 16];
    for (ssize_t size; (size = read(0, part, sizeof part)) > 0;) text.append(part, size);
    return Reader(std::move(text));
}

inline void send(const std::string& frame) {
    std::string text;
    put_text(text, frame);
    for (size_t done = 0; done < text.size();) {
        ssize_t size = write(channel, text.data() + done, text.size() - done);
        if (size <= 0) _exit(1);
        done += size;
    }
}

// --- the tests' side

struct Replay {
    Reader input = read_all();
    bool is_unanswered = false, has_failed = false;
};

inline Replay& replay() {
    static Replay state;
    return state;
}

// Stands for `assert`.
inline void check(bool is_right, const char* text) {
    if (is_right) return;
    replay().has_failed = true;
    if (replay().is_unanswered) return;
    fprintf(stderr, "%s\n", text);
    _exit(1);
}

inline void end(int status, void*) {
    if (status == 0 && replay().has_failed) _exit(1);
}
inline int is_registered = on_exit(end, nullptr);

template <class F> struct Remote;
template <class R, class... A> struct Remote<R(A...)> {
    static R call(A... arguments) {
        std::string frame;
        (put<std::decay_t<A>>(frame, arguments), ...);
        send(frame);
        Replay& state = replay();
        state.is_unanswered |= state.input.is_at_end() || state.input.text() != frame || state.input.is_at_end();
        if (state.is_unanswered) return std::decay_t<R>();
        Reader answer(state.input.text());
        if constexpr (std::is_void_v<R>) {
            (take<A>(answer, arguments), ...);
        } else {
            R result = answer.get<std::decay_t<R>>();
            (take<A>(answer, arguments), ...);
            return result;
        }
    }

  private:
    template <class T> static void take(Reader& answer, T& argument) {
        auto value = answer.get<std::decay_t<T>>();
        if constexpr (std::is_lvalue_reference_v<T> && !std::is_const_v<std::remove_reference_t<T>>) argument = value;
    }
};

// --- the answer's side

template <class R, class... A> int serve(R (*function)(A...)) {
    for (Reader calls = read_all(); !calls.is_at_end();) {
        Reader call(calls.text());
        std::tuple<std::decay_t<A>...> arguments{call.get<std::decay_t<A>>()...};
        std::string frame;
        if constexpr (std::is_void_v<R>)
            std::apply(function, arguments);
        else
            put<std::decay_t<R>>(frame, std::apply(function, arguments));
        put(frame, arguments);
        send(frame);
    }
    return 0;
}

}  // namespace ibft_wire
