// The texts of `bench --spec`, written for it.
#pragma once

#include <string_view>

namespace ruvltra {

// Openings that a model is to continue.
inline constexpr std::string_view kOpenings[] = {
    "Once upon a time there was an old king who had three sons, and the youngest of them was called the "
    "simple one "
    "because he spoke little. One day the king fell ill,",
    "There was once a poor fisherman who lived with his wife in a small hut by the sea. Every morning he "
    "went out "
    "with his net, and one day he drew up a great fish, which said to him,",
    "In a deep forest there lived a wolf and a fox, who had promised each other to share whatever they "
    "found. When "
    "the winter came and there was nothing to eat, the fox said to the wolf,",
    "A rich merchant had a daughter whom everybody praised for her good heart. When he had to go upon a "
    "journey, he "
    "asked her what he should bring home for her, and she answered,",
};

// A letter and its edited form: names and a few words are changed, two sentences are new, one is gone.
inline constexpr std::string_view kLetter =
    "Dear Martha,\n"
    "I write to you from the old mill by the river, where we arrived on Tuesday after two days on the road. "
    "The "
    "house is larger than I remembered, and every room has a window that looks upon the water. My brother "
    "Henry "
    "has already begun to mend the roof, and he says that it will keep out the rain before the month is "
    "over. The "
    "garden is full of weeds, but under the apple trees I have found the stone bench on which our "
    "grandmother used "
    "to sit and tell us stories.\n"
    "In the evening the miller came to greet us. He brought a basket of bread and a jar of honey, and he "
    "told us "
    "that the bridge had been carried away by the flood in the spring, so that everybody who wants to go to "
    "the "
    "town must now take the ferry. The ferryman is a silent man, but he has a clever dog that rings the bell "
    "when a "
    "stranger stands on the other bank.\n"
    "Please send me the blue curtains, the box with my books, and the letters of our father, which lie in "
    "the lower "
    "drawer of the desk. I hope that you will come to see us when the summer begins, and bring the children "
    "with "
    "you. There is a small boat, and Henry has promised to teach them to row.\n"
    "With love from your sister,\n"
    "Anna\n";
inline constexpr std::string_view kEditedLetter =
    "Dear Louise,\n"
    "I write to you from the old mill by the lake, where we arrived on Friday after three days on the road. "
    "The "
    "house is larger than I remembered, and every room has a window that looks upon the water. My brother "
    "Robert "
    "has already begun to mend the roof, and he says that it will keep out the rain before the month is "
    "over. The "
    "garden is full of weeds, but under the apple trees I have found the stone bench on which our "
    "grandmother used "
    "to sit and tell us stories. I sit there now while I am writing.\n"
    "In the evening the miller came to greet us. He brought a basket of bread and a jar of honey, and he "
    "told us "
    "that the bridge had been carried away by the flood in the spring, so that everybody who wants to go to "
    "the "
    "town must now take the ferry.\n"
    "Please send me the green curtains, the box with my books, and the letters of our father, which lie in "
    "the lower "
    "drawer of the desk. I hope that you will come to see us when the summer begins, and bring the children "
    "with "
    "you. There is a small boat, and Robert has promised to teach them to row. They will like it here.\n"
    "With love from your sister,\n"
    "Anna\n";
inline constexpr std::string_view kEditRequest =
    "Write this letter to Louise instead, from the lake, and change what must be changed:\n\n";

}  // namespace ruvltra
