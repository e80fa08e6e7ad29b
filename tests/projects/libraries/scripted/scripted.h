int scripted_answer(void);
